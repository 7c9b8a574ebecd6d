// The convolution as one matrix product on tensor cores: rows are pixels of the result, columns are outputs, and what
// is summed over is the words of every tap, one after the other as the weights lie. A linear layer is a convolution of
// one pixel.
//
// Words come into shared memory in STAGES of STAGE_WORDS a row, VECTOR words a copy: the largest of 4, 2 and 1 that
// divides the words of a tap.
#ifndef FROSTLINE_TILED
#define FROSTLINE_TILED

#include "finish.cuh"

// Where a word of a row lies in a stage. Rows are 64 bytes; exchanging chunks of 16 puts the eight rows that ldmatrix
// reads together into different banks.
__device__ inline int staged(int row, int word) {
    return row * STAGE_WORDS + ((word / 4) ^ (row / 2 % 4)) * 4 + word % 4;
}

// Start to copy what the block needs of words [step * STAGE_WORDS, ... + STAGE_WORDS).
template <int VECTOR, int TILE_COLUMNS>
__device__ inline void load_stage(const Convolution& c, Tile<TILE_COLUMNS>& tile, unsigned step, int first_column) {
    constexpr int ACROSS = STAGE_WORDS / VECTOR, STRIDE = THREADS / ACROSS;
    static_assert(STRIDE % 8 == 0, "rows of one thread are exchanged alike");
    const int word = threadIdx.x % ACROSS * VECTOR, first = threadIdx.x / ACROSS, group = blockIdx.y;
    const int summed = c.kernel_height * c.kernel_width * c.group_words;
    const int at = step * STAGE_WORDS + word;
    const int tap = at / c.group_words;
    const int tap_y = tap / c.kernel_width, tap_x = tap - tap_y * c.kernel_width;
    const int y = at < summed ? tap_y * c.dilation_y : NOWHERE, x = tap_x * c.dilation_x;
    const int offset = tap_offset(c, tap_y, tap_x) + group * c.group_words + (at - tap * c.group_words);

    unsigned* to = tile.activations[step % STAGES] + staged(first, word);
#pragma unroll
    for (int i = 0; i < TILE_ROWS / STRIDE; ++i) {
        const Window window = tile.windows[first + i * STRIDE];
        const bool inside = static_cast<unsigned>(window.y + y) < static_cast<unsigned>(c.height) &&
                            static_cast<unsigned>(window.x + x) < static_cast<unsigned>(c.width);
        copy_async<4 * VECTOR>(to + i * STRIDE * STAGE_WORDS, window.origin + offset, inside);
    }
    to = tile.weights[step % STAGES] + staged(first, word);
    int output = first_column + first;
    const unsigned* from = c.weights + (static_cast<long long>(group) * c.group_outputs + output) * summed + at;
#pragma unroll
    for (int i = 0; i < TILE_COLUMNS / STRIDE; ++i) {
        copy_async<4 * VECTOR>(to + i * STRIDE * STAGE_WORDS, from, output < c.group_outputs && at < summed);
        output += STRIDE;
        from += static_cast<long long>(STRIDE) * summed;
    }
}

// Add one slice of a stage. Counting the bits of `a` is a product, too: with a column of nothing but ones.
template <int TILE_COLUMNS>
__device__ inline void add_slice(Sums<TILE_COLUMNS>& sums, const unsigned* activations, const unsigned* weights,
                                 int slice) {
    const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 64, warp_column = threadIdx.x / 32 % 2;
    const int matrix = lane / 8, first = slice * SLICE_WORDS;
    unsigned w[Sums<TILE_COLUMNS>::ACROSS / 2][4];
#pragma unroll
    for (int pair = 0; pair < Sums<TILE_COLUMNS>::ACROSS / 2; ++pair) {
        const int column = warp_column * TILE_COLUMNS / 2 + pair * 16 + matrix / 2 * 8 + lane % 8;
        load_matrices(w[pair], weights + staged(column, first + matrix % 2 * 4));
    }
#pragma unroll
    for (int strip = 0; strip < 4; ++strip) {
        const int row = warp_row * 64 + strip * 16 + matrix % 2 * 8 + lane % 8;
        unsigned a[4];
        load_matrices(a, activations + staged(row, first + matrix / 2 * 4));
#pragma unroll
        for (int pair = 0; pair < Sums<TILE_COLUMNS>::ACROSS / 2; ++pair) {
            add_common_bits(sums.common[strip][2 * pair], a, w[pair][0], w[pair][1]);
            add_common_bits(sums.common[strip][2 * pair + 1], a, w[pair][2], w[pair][3]);
        }
        if (strip % 2 == warp_column) add_common_bits(sums.counts[strip / 2], a, 0xffffffffu, 0xffffffffu);
    }
}

// A grid of (row tiles * column tiles, groups) blocks of THREADS; neighbouring blocks share their rows.
template <int VECTOR, int TILE_COLUMNS, int RESULT>
__device__ inline void tiled(const Convolution& c) {
    auto& tile = shared_memory<Tile<TILE_COLUMNS>>();
    const int column_tiles = (c.group_outputs + TILE_COLUMNS - 1) / TILE_COLUMNS;
    const int first_row = static_cast<int>(blockIdx.x / column_tiles) * TILE_ROWS;
    const int first_column = static_cast<int>(blockIdx.x % column_tiles) * TILE_COLUMNS;
    const Window window = window_of(c, first_row + threadIdx.x);
    tile.windows[threadIdx.x] = window;
    if (threadIdx.x == 0) tile.bordered = 0;
    __syncthreads();
    if (!whole(c, window)) tile.bordered = 1;

    const int summed = c.kernel_height * c.kernel_width * c.group_words;
    const unsigned steps = (summed + STAGE_WORDS - 1) / STAGE_WORDS;
    for (unsigned step = 0; step < STAGES - 1; ++step) {
        if (step < steps) load_stage<VECTOR>(c, tile, step, first_column);
        commit_copies();
    }
    Sums<TILE_COLUMNS> sums = {};
    for (unsigned step = 0; step < steps; ++step) {
        wait_copies<STAGES - 2>();
        __syncthreads();  // all have step, and nobody reads step - 1 any more
        if (step + STAGES - 1 < steps) load_stage<VECTOR>(c, tile, step + STAGES - 1, first_column);
        commit_copies();
        const int slices = step + 1 < steps ? 2 : (summed - 1) / SLICE_WORDS % 2 + 1;
        for (int slice = 0; slice < slices; ++slice) {
            add_slice(sums, tile.activations[step % STAGES], tile.weights[step % STAGES], slice);
        }
    }
    finish<TILE_COLUMNS, RESULT>(c, tile, sums, first_row, first_column);
}

#endif

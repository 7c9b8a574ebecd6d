// The convolution as one matrix product on tensor cores: rows are pixels of the result, columns are outputs, and what is
// summed over is the words of every tap, one after the other as the weights lie. A linear layer is a 1x1 convolution.
//
// A block has TILE_ROWS x TILE_COLUMNS sums and 2 x 2 warps. Words come into shared memory in STAGES of STAGE_WORDS a row,
// VECTOR words a copy: the largest of 4, 2 and 1 that divides the words of a tap.
#ifndef FROSTLINE_TILED
#define FROSTLINE_TILED

#include "result.cuh"

constexpr int THREADS = 128;
constexpr int TILE_ROWS = 128;
constexpr int STAGES = 4;
constexpr int STAGE_WORDS = 16;
constexpr int SLICE_WORDS = 8;  // of one instruction: 256 bits

template <int TILE_COLUMNS>
struct Tile {
    unsigned activations[STAGES][TILE_ROWS * STAGE_WORDS];
    unsigned weights[STAGES][TILE_COLUMNS * STAGE_WORDS];
    Window windows[TILE_ROWS];
    int counts[TILE_ROWS];  // popc(a) of each row
    int bordered;           // whether some window leaves the image
};

// Where the correction of a row at a border lies, in the memory of the stages once they are spent. Rows are exchanged
// against conflicts of banks, as lanes read neighbouring rows.
template <int TILE_COLUMNS>
__device__ inline int* correction_of(Tile<TILE_COLUMNS>& tile, int row, int column) {
    static_assert(sizeof(tile.activations) + sizeof(tile.weights) >= TILE_ROWS * TILE_COLUMNS * sizeof(int));
    return reinterpret_cast<int*>(&tile) + row * TILE_COLUMNS + (column ^ ((row & 3) * 8));
}

// Where a word of a row lies in a stage. Rows are 64 bytes; exchanging chunks of 16 puts the eight rows that ldmatrix reads
// together into different banks.
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

// The sums of one warp: 64 rows by half of the columns, as 4 x ACROSS instructions of 16 x 8.
template <int TILE_COLUMNS>
struct Sums {
    static constexpr int ACROSS = TILE_COLUMNS / 16;
    int common[4][ACROSS][4];  // popc(a & w)
    int counts[2][4];          // popc(a) of every second strip of 16 rows; the neighbouring warp has the others
};

// Add one slice of a stage. Counting the bits of `a` is a product, too: with a column of nothing but ones.
template <int TILE_COLUMNS>
__device__ inline void add_slice(Sums<TILE_COLUMNS>& sums, const unsigned* activations, const unsigned* weights, int slice) {
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

// Share what the lanes of finish() need of each other: the counts, and the corrections of rows at a border.
template <int TILE_COLUMNS>
__device__ inline void share(const Convolution& c, Tile<TILE_COLUMNS>& tile, const Sums<TILE_COLUMNS>& sums,
                             int first_column) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = blockIdx.y;
    if (lane % 4 == 0) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {  // two strips, two rows of each
            const int strip = i / 2 * 2 + warp % 2;
            tile.counts[warp / 2 * 64 + strip * 16 + i % 2 * 8 + lane / 4] = sums.counts[i / 2][i % 2 * 2];
        }
    }
    __syncthreads();  // nobody reads a stage any more
    if (tile.bordered) {
        for (int row = warp; row < TILE_ROWS; row += THREADS / 32) {
            const Window window = tile.windows[row];
            if (whole(c, window)) continue;
            const Taps taps = taps_of(c, window);
            for (int column = lane; column < at_most(TILE_COLUMNS, c.group_outputs - first_column); column += 32) {
                const int output = group * c.group_outputs + first_column + column;
                *correction_of(tile, row, column) = correction(c, taps, output);
            }
        }
        __syncthreads();
    }
}

// Turn the sums into results. Lane l has rows l / 4 and l / 4 + 8 of each of four strips; columns l % 4 * 2 and the next of
// each 8.
template <int TILE_COLUMNS, int RESULT>
__device__ inline void finish(const Convolution& c, Tile<TILE_COLUMNS>& tile, const Sums<TILE_COLUMNS>& sums,
                              int first_row, int first_column) {
    constexpr int ACROSS = Sums<TILE_COLUMNS>::ACROSS;
    const int lane = threadIdx.x % 32, warp_column = threadIdx.x / 32 % 2, group = blockIdx.y;
    const int left = first_column + warp_column * TILE_COLUMNS / 2;
    const int top = threadIdx.x / 64 * 64 + lane / 4;
    int minus[8];                      // -2 popc(a) of each row
    unsigned present = 0, inside = 0;  // bit by bit: there is such a row, and all of its taps lie inside of the image
    share(c, tile, sums, first_column);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        minus[i] = -2 * tile.counts[top + i * 8];
        present |= static_cast<unsigned>(first_row + top + i * 8 < c.rows) << i;
        inside |= static_cast<unsigned>(whole(c, tile.windows[top + i * 8])) << i;
    }
    const Taps all = {0, c.kernel_height, 0, c.kernel_width};
    unsigned bits[8][ACROSS / 4] = {}, flips[ACROSS / 4] = {}, valid[ACROSS / 4] = {};
#pragma unroll
    for (int block = 0; block < ACROSS; ++block) {
        const int column = left + block * 8 + lane % 4 * 2;
        if (column >= c.group_outputs) continue;
        const int output = group * c.group_outputs + column;
        const int next = column + 1 < c.group_outputs ? output + 1 : output;
        const Column columns[2] = {column_of<RESULT>(c, output), column_of<RESULT>(c, next)};
        const Pair<int> usual = {correction(c, all, output), correction(c, all, next)};
        constexpr unsigned FIRST = 1, SECOND = 2;
        valid[block / 4] |= (next > output ? FIRST + SECOND : FIRST) << block % 4 * 8;
        if (columns[0].flip) flips[block / 4] |= FIRST << block % 4 * 8;
        if (columns[1].flip) flips[block / 4] |= SECOND << block % 4 * 8;
        const int* border = correction_of(tile, top, column - first_column);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int* common = &sums.common[i / 2][block][i % 2 * 2];
            Pair<int> corrected = usual;
            if (!(inside >> i & 1)) corrected = *reinterpret_cast<const Pair<int>*>(border + i * 8 * TILE_COLUMNS);
            const int sum[2] = {4 * common[0] + minus[i] + corrected.first, 4 * common[1] + minus[i] + corrected.second};
            if constexpr (RESULT == BITS) {
                if (sum[0] >= columns[0].threshold) bits[i][block / 4] |= FIRST << block % 4 * 8;
                if (sum[1] >= columns[1].threshold) bits[i][block / 4] |= SECOND << block % 4 * 8;
            } else if (present >> i & 1) {
                using Type = typename Entry<RESULT>::Type;
                const long long place = static_cast<long long>(first_row + top + i * 8) * c.outputs + output;
                Type* to = static_cast<Type*>(c.result) + place;
                const Type value = value_of<RESULT>(c, columns[0], place, sum[0]);
                if (next == output) {
                    *to = value;
                    continue;
                }
                const Type neighbour = value_of<RESULT>(c, columns[1], place + 1, sum[1]);
                if (place % 2 == 0) {
                    *reinterpret_cast<Pair<Type>*>(to) = {value, neighbour};
                } else {
                    to[0] = value;
                    to[1] = neighbour;
                }
            }
        }
    }
    if constexpr (RESULT == BITS) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
#pragma unroll
            for (int word = 0; word < ACROSS / 4; ++word) {
                const unsigned joined = quad_or(((bits[i][word] ^ flips[word]) & valid[word]) << lane % 4 * 2);
                const int column = left + word * 32;
                if (lane % 4 != word || !(present >> i & 1) || column >= c.group_outputs) continue;
                const long long row = first_row + top + i * 8;
                const int place = (group * c.group_outputs + column) / 32;
                static_cast<unsigned*>(c.result)[row * ((c.outputs + 31) / 32) + place] = joined;
            }
        }
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

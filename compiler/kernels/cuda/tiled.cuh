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
};

// Where a word of a row lies in a stage. Rows are 64 bytes; exchanging chunks of 16 puts the eight rows that ldmatrix reads
// together into different banks.
__device__ inline int staged(int row, int word) {
    return row * STAGE_WORDS + ((word / 4) ^ (row / 2 % 4)) * 4 + word % 4;
}

// Start to copy what the block needs of words [step * STAGE_WORDS, ... + STAGE_WORDS).
template <int VECTOR, int TILE_COLUMNS>
__device__ inline void load_stage(const Convolution& c, Tile<TILE_COLUMNS>& tile, int step, int first_column) {
    constexpr int across = STAGE_WORDS / VECTOR;
    const int word = threadIdx.x % across * VECTOR, first = threadIdx.x / across;
    const int group = blockIdx.y;
    const int at = step * STAGE_WORDS + word;
    const int tap = at / c.group_words;
    const int y = tap / c.kernel_width, x = tap - y * c.kernel_width;
    const int offset = tap_offset(c, y, x) + group * c.group_words + (at - tap * c.group_words);
    unsigned* const activations = tile.activations[step % STAGES];
    unsigned* const weights = tile.weights[step % STAGES];
#pragma unroll
    for (int row = first; row < TILE_ROWS; row += THREADS / across) {
        const Window window = tile.windows[row];
        const bool inside = y >= window.top && y < window.bottom && x >= window.left && x < window.right;
        const unsigned* from = c.activations + (inside ? window.origin + offset : 0);
        copy_async<4 * VECTOR>(activations + staged(row, word), from, inside);
    }
    const int summed = c.kernel_height * c.kernel_width * c.group_words;
#pragma unroll
    for (int column = first; column < TILE_COLUMNS; column += THREADS / across) {
        const int output = first_column + column;
        const bool present = output < c.group_outputs && at < summed;
        const long long row = static_cast<long long>(group) * c.group_outputs + output;
        const unsigned* from = c.weights + (present ? row * summed + at : 0);
        copy_async<4 * VECTOR>(weights + staged(column, word), from, present);
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

// Turn the sums into results. Lane l has rows l / 4 and l / 4 + 8 of each strip, columns l % 4 * 2 and the next of each 8.
template <int TILE_COLUMNS, int RESULT>
__device__ inline void finish(const Convolution& c, Tile<TILE_COLUMNS>& tile, const Sums<TILE_COLUMNS>& sums,
                              long long first_row, int first_column) {
    constexpr int ACROSS = Sums<TILE_COLUMNS>::ACROSS;
    const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 64, warp_column = threadIdx.x / 32 % 2;
    const int top = warp_row * 64 + lane / 4;
    if (lane % 4 == 0) {
#pragma unroll
        for (int half = 0; half < 4; ++half) {  // two strips, two rows of each
            const int strip = half / 2 * 2 + warp_column;
            tile.counts[top + strip * 16 + half % 2 * 8] = sums.counts[half / 2][half % 2 * 2];
        }
    }
    __syncthreads();
    const int group = blockIdx.y;
    const int left = first_column + warp_column * TILE_COLUMNS / 2;
    unsigned bits[8][(ACROSS + 3) / 4] = {};
#pragma unroll
    for (int block = 0; block < ACROSS; ++block) {
        const int column = left + block * 8 + lane % 4 * 2;
        const int output = group * c.group_outputs + column;
        if (column >= c.group_outputs) continue;
        const bool both = column + 1 < c.group_outputs;
        const Window whole = {0, 0, static_cast<short>(c.kernel_height), 0, static_cast<short>(c.kernel_width)};
        const int usual[2] = {correction(c, whole, output), both ? correction(c, whole, output + 1) : 0};
#pragma unroll
        for (int half = 0; half < 8; ++half) {  // four strips, two rows of each
            const int row = top + half * 8;
            if (first_row + row >= c.rows) continue;
            const Window window = tile.windows[row];
            const bool inner = window.top == 0 && window.left == 0 && window.bottom == c.kernel_height &&
                               window.right == c.kernel_width;
            const int* common = &sums.common[half / 2][block][half % 2 * 2];
            const int counted = 2 * tile.counts[row];
            const int sum0 = 4 * common[0] - counted + (inner ? usual[0] : correction(c, window, output));
            const int sum1 =
                4 * common[1] - counted + (inner || !both ? usual[1] : correction(c, window, output + 1));
            if constexpr (RESULT == BITS) {
                const unsigned two = bit_of(c, output, sum0) + 2u * (both && bit_of(c, output + 1, sum1));
                bits[half][block / 4] |= two << (block % 4 * 8 + lane % 4 * 2);
            } else {
                using Type = typename Entry<RESULT>::Type;
                const long long at = first_row + row;
                Type* to = static_cast<Type*>(c.result) + at * c.outputs + output;
                const Type value = value_of<RESULT>(c, at, output, sum0);
                if (both && c.outputs % 2 == 0 && output % 2 == 0) {
                    *reinterpret_cast<Pair<Type>*>(to) = {value, value_of<RESULT>(c, at, output + 1, sum1)};
                } else {
                    to[0] = value;
                    if (both) to[1] = value_of<RESULT>(c, at, output + 1, sum1);
                }
            }
        }
    }
    if constexpr (RESULT == BITS) {
        const int result_words = (c.outputs + 31) / 32;
#pragma unroll
        for (int half = 0; half < 8; ++half) {
#pragma unroll
            for (int word = 0; word < ACROSS / 4; ++word) {
                const unsigned whole = quad_or(bits[half][word]);
                const long long row = first_row + top + half * 8;
                const int column = left + word * 32;
                if (lane % 4 != word || row >= c.rows || column >= c.group_outputs) continue;
                const int output = group * c.group_outputs + column;
                static_cast<unsigned*>(c.result)[row * result_words + output / 32] = whole;
            }
        }
    }
}

// A grid of (row tiles * column tiles, groups) blocks of THREADS; neighbouring blocks share their rows.
template <int VECTOR, int TILE_COLUMNS, int RESULT>
__device__ inline void tiled(const Convolution& c) {
    auto& tile = *reinterpret_cast<Tile<TILE_COLUMNS>*>(shared_memory());
    const int column_tiles = (c.group_outputs + TILE_COLUMNS - 1) / TILE_COLUMNS;
    const long long first_row = static_cast<long long>(blockIdx.x / column_tiles) * TILE_ROWS;
    const int first_column = static_cast<int>(blockIdx.x % column_tiles) * TILE_COLUMNS;
    tile.windows[threadIdx.x] = window_of(c, first_row + threadIdx.x);
    __syncthreads();

    const int summed = c.kernel_height * c.kernel_width * c.group_words;
    const int steps = (summed + STAGE_WORDS - 1) / STAGE_WORDS;
    for (int step = 0; step < STAGES - 1; ++step) {
        if (step < steps) load_stage<VECTOR>(c, tile, step, first_column);
        commit_copies();
    }
    Sums<TILE_COLUMNS> sums = {};
    for (int step = 0; step < steps; ++step) {
        wait_copies<STAGES - 2>();
        __syncthreads();  // all have step, and nobody reads step - 1 any more
        if (step + STAGES - 1 < steps) load_stage<VECTOR>(c, tile, step + STAGES - 1, first_column);
        commit_copies();
        const int slices = at_most((summed - step * STAGE_WORDS + SLICE_WORDS - 1) / SLICE_WORDS, 2);
        for (int slice = 0; slice < slices; ++slice) {
            add_slice(sums, tile.activations[step % STAGES], tile.weights[step % STAGES], slice);
        }
    }
    finish<TILE_COLUMNS, RESULT>(c, tile, sums, first_row, first_column);
}

#endif

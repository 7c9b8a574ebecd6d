// What a block has when its products are done, and how it becomes results.
//
// A block has TILE_ROWS x TILE_COLUMNS sums and 2 x 2 warps.
#ifndef FROSTLINE_FINISH
#define FROSTLINE_FINISH

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

// The sums of one warp: 64 rows by half of the columns, as 4 x ACROSS instructions of 16 x 8.
template <int TILE_COLUMNS>
struct Sums {
    static constexpr int ACROSS = TILE_COLUMNS / 16;
    int common[4][ACROSS][4];  // popc(a & w)
    int counts[2][4];          // popc(a) of every second strip of 16 rows; the neighbouring warp has the others
};

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

// Write the results of one output of a row, and of the next where there are two.
template <int RESULT>
__device__ inline void write(const Convolution& c, const Column (&columns)[2], long long place, bool two,
                             const int (&sum)[2]) {
    using Type = typename Entry<RESULT>::Type;
    Type* to = static_cast<Type*>(c.result) + place;
    const Type first = value_of<RESULT>(c, columns[0], place, sum[0]);
    if (!two) {
        *to = first;
        return;
    }
    const Type second = value_of<RESULT>(c, columns[1], place + 1, sum[1]);
    if (place % 2 == 0) {
        store(reinterpret_cast<Pair<Type>*>(to), {first, second});
    } else {
        to[0] = first;
        to[1] = second;
    }
}

// Turn the sums into results. Lane l has rows l / 4 and l / 4 + 8 of each of four strips, columns l % 4 * 2 and the
// next of each 8.
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
            const int sum[2] = {4 * common[0] + minus[i] + corrected.first,
                                4 * common[1] + minus[i] + corrected.second};
            if constexpr (RESULT == BITS) {
                if (sum[0] >= columns[0].threshold) bits[i][block / 4] |= FIRST << block % 4 * 8;
                if (sum[1] >= columns[1].threshold) bits[i][block / 4] |= SECOND << block % 4 * 8;
            } else if (present >> i & 1) {
                const long long place = static_cast<long long>(first_row + top + i * 8) * c.outputs + output;
                write<RESULT>(c, columns, place, next > output, sum);
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

#endif

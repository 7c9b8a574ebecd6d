// How fast are the tensor cores on single bits? For benchmarks/cuda.py: products of registers, and nothing else.
#ifndef FROSTLINE_RATE
#define FROSTLINE_RATE

#include "warp.cuh"

// Field by field the same as `Rate` in benchmarks/cuda.py.
struct Rate {
    int* result;  // of each thread, so that no product is dropped
    int rounds;
};

// A warp adds `rounds` times INDEPENDENT products of 16 x 8 x 256 bits.
template <int INDEPENDENT>
__device__ inline void rate(const Rate& r) {
    int sums[INDEPENDENT][4] = {};
    const unsigned a[4] = {threadIdx.x, threadIdx.x + 1, threadIdx.x + 2, threadIdx.x + 3};
    for (int round = 0; round < r.rounds; ++round) {
#pragma unroll
        for (int i = 0; i < INDEPENDENT; ++i) add_common_bits(sums[i], a, threadIdx.x, ~threadIdx.x);
    }
    int sum = 0;
#pragma unroll
    for (int i = 0; i < INDEPENDENT; ++i) sum += sums[i][0] + sums[i][1] + sums[i][2] + sums[i][3];
    r.result[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

#endif

// The reference: a thread an output, any group. By exclusive or: it shares no formula with the tensor cores.
#ifndef FROSTLINE_PLAIN
#define FROSTLINE_PLAIN

#include "result.cuh"

// The 32 channels of a pixel from `channel` on, clear behind its last word.
__device__ inline unsigned channels_from(const unsigned* pixel, int words, int channel) {
    const int word = channel / 32, shift = channel % 32;
    unsigned bits = pixel[word] >> shift;
    if (shift > 0 && word + 1 < words) bits |= pixel[word + 1] << (32 - shift);
    return bits;
}

__device__ inline int plain_sum(const Convolution& c, const Window& window, int output) {
    const int channel = output / c.group_outputs * c.inputs;
    const Taps taps = taps_of(c, window);
    int sum = 0;
    for (int y = taps.top; y < taps.bottom; ++y) {
        for (int x = taps.left; x < taps.right; ++x) {
            const unsigned* pixel = window.origin + tap_offset(c, y, x);
            const long long tap = (static_cast<long long>(output) * c.kernel_height + y) * c.kernel_width + x;
            for (int word = 0; word < c.group_words; ++word) {
                const int count = at_most(c.inputs - 32 * word, 32);
                const unsigned weight = c.weights[tap * c.group_words + word];
                const unsigned differ = channels_from(pixel, c.words, channel + 32 * word) ^ weight;
                sum += count - 2 * ones(differ & (0xffffffffu >> (32 - count)));
            }
        }
    }
    return sum;
}

// A grid of rows * (outputs, rounded up to 32) threads: a warp has 32 outputs of one row.
template <int RESULT>
__device__ inline void plain(const Convolution& c) {
    const int result_words = (c.outputs + 31) / 32;
    const long long thread = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int row = static_cast<int>(thread / (32 * result_words));
    const int output = static_cast<int>(thread % (32 * result_words));
    if (row >= c.rows) return;  // a whole warp
    const bool present = output < c.outputs;
    const int sum = present ? plain_sum(c, window_of(c, row), output) : 0;
    const Column column = column_of<RESULT>(c, present ? output : 0);
    if constexpr (RESULT == BITS) {
        const unsigned word = lane_bits(present && (sum >= column.threshold) != column.flip);
        const long long place = static_cast<long long>(row) * result_words + output / 32;
        if (threadIdx.x % 32 == 0) static_cast<unsigned*>(c.result)[place] = word;
    } else if (present) {
        const long long place = static_cast<long long>(row) * c.outputs + output;
        static_cast<typename Entry<RESULT>::Type*>(c.result)[place] = value_of<RESULT>(c, column, place, sum);
    }
}

#endif

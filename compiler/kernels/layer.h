// A binary product as the kernels see it: a convolution over packed pixels. A linear layer is one with a kernel of 1.
#pragma once

#include <cstdint>

namespace frostline {

constexpr int kPanel = 16;   // pixels that are computed together
constexpr int kTogether = 8; // panels whose results are written together
constexpr int kBlock = 64;   // outputs that are computed together, at most
constexpr int kAxes = 3;     // spatial axes: depth, height, width

// What is fixed when a model is loaded. Unused axes, the first ones, have kernel 1.
struct Layer {
    int64_t groups, outputs, inputs;  // outputs and inputs of one group
    int64_t kernel[kAxes], strides[kAxes], before[kAxes], after[kAxes], dilations[kAxes];
    int64_t taps, words;  // words of 32 inputs in a tap
    bool chained;         // in place of every second word, inputs and weights have the parity of all up to it
    bool rows;            // floats lie pixel by pixel, as a linear layer has them; else channel by channel
};

// What follows the integers, where they become floats: a factor and a term for each channel, or null.
struct Epilogue {
    const float *scale, *shift;
    const float* limits;  // what floats are clipped to, the residual included
};

// Outputs that are computed together, and their weights as the engine wants them.
struct Block {
    int64_t group, first, width;
    const uint8_t* weights;
};

// How pixels lie for one size of input.
struct Sizes {
    int64_t in[kAxes], padded[kAxes], out[kAxes];
    int64_t pixels_in, pixels_padded, pixels_out;
    // The padded input lies pixel by pixel, or in planes: word by word, and in a word pixel by pixel.
    bool planes;
    int64_t pixel_step, word_step, image_bytes;  // bytes from one to the next
    // [pixels_out, and the last one again until the panel is full]
    const uint32_t* offsets;  // from the image's first byte to the pixel's first tap
    const uint32_t* based;    // where the pixel's bases are: it hangs on which taps lie inside of the image
    // [patterns of taps, groups, padded outputs]: the sum where no bit differs, from which each bit that does takes 2;
    // where sums are compared, how many may differ at most for the bit to be set
    const int32_t* bases;
    const int64_t* places;   // [taps * words], from a pixel's first tap to each word that it is made of
    // In planes, where rows are whole panels: [patterns of panels, groups, padded outputs, kPanel], and where each panel's are.
    const int16_t* panel_bases;  // their low halves
    const uint32_t* panel_based;
};

// The tensors of one call. Floats are `[n, channels, pixels]`, bits `[n, pixels, words]`.
struct Tensors {
    int64_t batch;
    const float* x;
    const uint32_t* x_bits;
    const float* residual;
    float* y;  // null where sums are compared, not kept
    uint32_t* y_bits;
    uint8_t* prepared;  // [n, padded pixels, groups, words] of `Engine::word_bytes`, or in planes [n, groups, words, padded pixels]
};

// One instruction set's way to do it.
struct Engine {
    const char* name;
    bool chains, planes;  // whether it can: `Layer::chained`, `Sizes::planes`
    int64_t word_bytes;  // a word of 32 inputs, as its tile reads it
    int64_t longest;     // the largest sum that it can count
    // Bytes of the weights of a block, and the block itself, from rows of `words` words.
    int64_t (*block_bytes)(int64_t width, int64_t words);
    void (*interleave)(const Layer&, const uint32_t* rows, int64_t outputs, int64_t width, int64_t words, uint8_t* block);
    // Rows [first, last) of the padded input.
    void (*prepare)(const Layer&, const Sizes&, const Tensors&, int64_t image, int64_t first, int64_t last);
    // The outputs of a block, of up to kTogether panels of pixels.
    void (*compute)(const Layer&, const Sizes&, const Tensors&, const Epilogue&, int64_t image, int64_t panel,
                    int64_t panels, const Block& block);
    // Bits of floats, for activations that several layers read.
    void (*pack)(const float* x, int64_t channels, int64_t pixels, bool rows, uint32_t* bits);
    // Does what its tile of several taps does over and over, without memory, and returns how many products that were.
    int64_t (*spin)(int64_t turns);
};

// Static, so that no file uses what another was compiled to, for instructions that the processor may lack: the outputs
// of a block, where so many are left; words of so many channels; outputs with those that fill the last block.
static inline int64_t block_width(int64_t left) { return left > 32 ? kBlock : 32; }
static inline int64_t words_of(int64_t channels) { return (channels + 31) / 32; }
static inline int64_t padded_outputs(int64_t outputs) {
    int64_t whole = outputs / kBlock * kBlock;
    return whole + (outputs > whole ? block_width(outputs - whole) : 0);
}

// Null where the processor, or the compiler that built this, does not have the instructions.
const Engine* scalar_engine();
const Engine* avx2_engine();
const Engine* avx512_engine();
const Engine* avx512_popcount_engine();

}  // namespace frostline

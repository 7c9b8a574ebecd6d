// A binary product that is ready to run: weights as the processor's engine wants them, and what follows the integers.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "layer.h"

namespace frostline {

// The engines that this processor has, the fastest first.
std::vector<const Engine*> engines();

// What products are made for from now on: the engine that was chosen, else the fastest. Null chooses the fastest.
const Engine* chosen_engine();
void choose_engine(const Engine* engine);

// What is fixed, as a caller describes it: one number an axis, without the unused axes.
struct Window {
    std::vector<int64_t> kernel, strides, pads, dilations;  // pads: all begins before all ends
    int64_t groups = 1;
};

// Calls `task(i)` for every i below `count`, on as many threads as the caller has.
using ParallelFor = std::function<void(int64_t count, const std::function<void(int64_t)>& task)>;

// Starts on a line of the cache.
template <typename T>
struct OnLines {
    using value_type = T;
    OnLines() = default;
    template <typename Other>
    OnLines(const OnLines<Other>&) {}
    T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
    void deallocate(T* memory, size_t) { ::operator delete(memory, kLine); }
    friend bool operator==(const OnLines&, const OnLines&) { return true; }
    friend bool operator!=(const OnLines&, const OnLines&) { return false; }

  private:
    static constexpr std::align_val_t kLine{64};
};
template <typename T>
using Lines = std::vector<T, OnLines<T>>;

class Product {
  public:
    // `bits` are `[outputs, *kernel, words * 4]`. With `thresholds` sums become bits, which are turned where `high` is
    // negative; both have one entry an output. Throws std::invalid_argument for what cannot be.
    Product(const uint8_t* bits, int64_t outputs, int64_t inputs, const Window& window, bool rows,
            const float* thresholds = nullptr, const float* high = nullptr);

    // What follows the integers, if anything does: all have one entry an output.
    void scale_by(const float* scale, const float* shift);
    void clip_to(const float* limits);  // two, the lower one first

    // The spatial sizes of the result. Throws std::invalid_argument where the kernel does not fit.
    std::vector<int64_t> out_sizes(const std::vector<int64_t>& in_sizes);
    // Throws std::invalid_argument for bits in groups of channels that fill no whole words.
    void run(const std::vector<int64_t>& in_sizes, Tensors tensors, const ParallelFor& parallel_for);

    const Engine& engine() const { return *engine_; }
    int64_t outputs() const { return layer_.groups * layer_.outputs; }
    int64_t inputs() const { return layer_.groups * layer_.inputs; }
    bool gives_bits() const { return !thresholds_.empty(); }

  private:
    void binarize_at(const float* thresholds, const float* high, std::vector<uint32_t>& weights);
    uint32_t there_of_last() const;
    int32_t most_differing(int32_t base, int64_t output) const;

    struct Placed;  // sizes with the memory that they point to
    std::shared_ptr<const Placed> place(const std::vector<int64_t>& in_sizes);

    Layer layer_{};
    size_t axes_;  // of an input; rows have two
    const Engine* engine_;
    std::vector<Block> blocks_;
    Lines<uint8_t> weights_;
    std::vector<int32_t> sums_;  // [taps, groups, padded outputs]: what a tap of clear bits gives
    std::vector<int32_t> thresholds_;
    std::vector<bool> flipped_;
    std::vector<float> scale_, shift_, limits_;
    std::mutex mutex_;
    std::shared_ptr<const Placed> placed_;
};

}  // namespace frostline

#include "product.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <map>
#include <stdexcept>
#include <utility>

namespace frostline {
namespace {

std::atomic<const Engine*> chosen{nullptr};

constexpr int64_t kTask = 1 << 22;  // products that are worth a task of their own
constexpr int64_t kLargest = 1 << 30;  // of a number that a file gives, so that no sum of them wraps around
constexpr double kMost = 1e12;         // bytes that all images take
constexpr double kMostAtOnce = 4e9;    // and one of them, so that 32 bits say where a pixel lies

int64_t product_of(const int64_t* values) { return values[0] * values[1] * values[2]; }

// One number an axis, the unused axes in front.
void spread(const std::vector<int64_t>& given, size_t axes, int64_t fill, int64_t* to, const char* what) {
    if (given.size() != axes) throw std::invalid_argument(std::string(what) + " has not one entry for each axis");
    for (int i = 0; i < kAxes; ++i) {
        const int place = i - (kAxes - int(axes));
        to[i] = place < 0 ? fill : given[size_t(place)];
        if (to[i] < fill) throw std::invalid_argument(std::string(what) + " is too small");
        if (to[i] > kLargest) throw std::invalid_argument(std::string(what) + " is too large");
    }
}

// The taps of one axis that lie inside of the image, for one output.
std::pair<int32_t, int32_t> inside(int64_t output, const Layer& layer, int axis, int64_t size) {
    int32_t first = 0, last = 0;
    for (int64_t tap = 0; tap < layer.kernel[axis]; ++tap) {
        const int64_t at = output * layer.strides[axis] - layer.before[axis] + tap * layer.dilations[axis];
        if (at < 0) first = int32_t(tap + 1);
        if (at < size) last = int32_t(tap + 1);
    }
    return {first, std::max(first, last)};
}

}  // namespace

std::vector<const Engine*> engines() {
    std::vector<const Engine*> found;
    for (const Engine* engine : {avx512_popcount_engine(), avx512_engine(), avx2_engine(), scalar_engine()})
        if (engine) found.push_back(engine);
    return found;
}

const Engine* chosen_engine() {
    static const Engine* fastest = engines().front();
    const Engine* engine = chosen;
    return engine ? engine : fastest;
}

void choose_engine(const Engine* engine) { chosen = engine; }

struct Product::Placed {
    std::vector<int64_t> in_sizes, out_sizes;
    Sizes sizes{};
    std::vector<uint32_t> offsets, based, panel_based;
    std::vector<int64_t> places;
    Lines<int32_t> bases;
    Lines<int16_t> panel_bases;

    // The bases of the pixels of each panel side by side, once for all panels of a pattern.
    void base_panels(int64_t row_of_bases) {
        std::map<std::vector<uint32_t>, uint32_t> known;
        for (auto first = based.begin(); first != based.end(); first += kPanel) {
            const std::vector<uint32_t> pattern(first, first + kPanel);
            const auto [found, is_new] = known.emplace(pattern, uint32_t(panel_bases.size()));
            panel_based.push_back(found->second);
            for (int64_t o = 0; is_new && o < row_of_bases; ++o)
                for (const uint32_t start : pattern) panel_bases.push_back(int16_t(bases[size_t(start + o)]));
        }
        sizes.panel_based = panel_based.data(), sizes.panel_bases = panel_bases.data();
    }
};

Product::Product(const uint8_t* bits, int64_t outputs, int64_t inputs, const Window& window, bool rows, const float* thresholds, const float* high) {
    const size_t axes = window.kernel.size();
    if (axes > size_t(kAxes)) throw std::invalid_argument("there are more than three spatial axes");
    if (window.groups < 1 || outputs % window.groups) throw std::invalid_argument("the groups do not divide the outputs");
    if (inputs < 1 || outputs < 1) throw std::invalid_argument("there are no inputs, or no outputs");
    layer_.groups = window.groups, layer_.outputs = outputs / window.groups, layer_.inputs = inputs, layer_.rows = rows;
    spread(window.kernel, axes, 1, layer_.kernel, "kernel_shape");
    spread(window.strides, axes, 1, layer_.strides, "strides");
    spread(window.dilations, axes, 1, layer_.dilations, "dilations");
    if (window.pads.size() != 2 * axes) throw std::invalid_argument("pads has not two entries for each axis");
    spread({window.pads.begin(), window.pads.begin() + axes}, axes, 0, layer_.before, "pads");
    spread({window.pads.begin() + axes, window.pads.end()}, axes, 0, layer_.after, "pads");
    layer_.taps = product_of(layer_.kernel), layer_.words = words_of(inputs), axes_ = rows ? 2 : axes;

    engine_ = chosen_engine();
    const int64_t words = layer_.taps * layer_.words, padded = padded_outputs(layer_.outputs);
    if (layer_.taps * inputs > engine_->longest) engine_ = scalar_engine();
    if (layer_.taps * inputs > engine_->longest) throw std::invalid_argument("the sums are too long to be counted");
    layer_.chained = engine_->chains && layer_.taps == 1 && words % 4 == 0 && (rows || thresholds);

    int64_t bytes = 0;
    std::vector<int64_t> places;
    for (int64_t group = 0; group < layer_.groups; ++group)
        for (int64_t first = 0; first < layer_.outputs;) {
            const int64_t width = block_width(layer_.outputs - first);
            blocks_.push_back({group, first, width, nullptr}), places.push_back(bytes);
            bytes += (engine_->block_bytes(width, words) + 63) / 64 * 64;
            first += width;
        }
    weights_.resize(size_t(bytes));
    std::vector<uint32_t> all(size_t(outputs * words));
    std::memcpy(all.data(), bits, all.size() * 4);
    for (size_t i = size_t(layer_.words) - 1; i < all.size(); i += size_t(layer_.words)) all[i] &= there_of_last();
    sums_.assign(size_t(layer_.taps * layer_.groups * padded), 0);
    for (int64_t o = 0; o < outputs; ++o)
        for (int64_t tap = 0; tap < layer_.taps; ++tap) {
            int32_t set = 0;
            for (int64_t k = 0; k < layer_.words; ++k) set += __builtin_popcount(all[size_t((o * layer_.taps + tap) * layer_.words + k)]);
            const int64_t group = o / layer_.outputs;
            sums_[size_t((tap * layer_.groups + group) * padded + o % layer_.outputs)] = int32_t(inputs) - 2 * set;
        }
    if (thresholds) binarize_at(thresholds, high, all);
    for (size_t i = 0; i < blocks_.size(); ++i) {
        Block& block = blocks_[i];
        const uint32_t* from = all.data() + (block.group * layer_.outputs + block.first) * words;
        const int64_t there = std::min(block.width, layer_.outputs - block.first);
        uint8_t* to = weights_.data() + places[i];
        engine_->interleave(layer_, from, there, block.width, words, to), block.weights = to;
    }
}

// The bits of a tap's last word that are inputs.
uint32_t Product::there_of_last() const { return ~0u >> (32 * layer_.words - layer_.inputs); }

// A flipped output has the complement of its weights: where c of n bits differed, n - c do.
void Product::binarize_at(const float* thresholds, const float* high, std::vector<uint32_t>& weights) {
    if (layer_.groups > 1 && layer_.outputs % 32) throw std::invalid_argument("the groups have no whole words of outputs");
    const size_t count = size_t(outputs()), words = weights.size() / count;
    thresholds_.assign(count, 0), flipped_.assign(count, false);
    for (size_t o = 0; o < count; ++o) {
        const float limit = float(layer_.taps * layer_.inputs + 1), smallest = std::ceil(thresholds[o]);
        thresholds_[o] = int32_t(smallest < limit ? std::max(smallest, -limit) : limit);  // nothing reaches NaN
        flipped_[o] = high[o] < 0;
        for (size_t i = 0; flipped_[o] && i < words; ++i) weights[o * words + i] ^= (i + 1) % size_t(layer_.words) ? ~0u : there_of_last();
    }
}

void Product::scale_by(const float* scale, const float* shift) {
    scale_.assign(scale, scale + outputs());
    shift_.assign(shift, shift + outputs());
    scale_.resize(size_t(outputs() + kBlock)), shift_.resize(size_t(outputs() + kBlock));
}

void Product::clip_to(const float* limits) { limits_.assign(limits, limits + 2); }

std::vector<int64_t> Product::out_sizes(const std::vector<int64_t>& in_sizes) { return place(in_sizes)->out_sizes; }

std::shared_ptr<const Product::Placed> Product::place(const std::vector<int64_t>& in_sizes) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (placed_ && placed_->in_sizes == in_sizes) return placed_;
    auto placed = std::make_shared<Placed>();
    placed->in_sizes = in_sizes;
    Sizes& s = placed->sizes;
    spread(in_sizes, axes_, 0, s.in, "the input");
    for (int i = 0; i < kAxes - int(in_sizes.size()); ++i) s.in[i] = 1;
    for (int i = 0; i < kAxes; ++i) {
        const int64_t span = layer_.dilations[i] * (layer_.kernel[i] - 1) + 1, full = s.in[i] + layer_.before[i] + layer_.after[i];
        if (full < span) throw std::invalid_argument("the kernel is larger than the padded input");
        s.padded[i] = full, s.out[i] = (full - span) / layer_.strides[i] + 1;
    }
    const int64_t pixel_bytes = layer_.groups * layer_.words * engine_->word_bytes, padded = padded_outputs(layer_.outputs);
    if (double(s.padded[0]) * double(s.padded[1]) * double(s.padded[2]) * double(pixel_bytes) > kMostAtOnce)
        throw std::invalid_argument("the padded input is too large");
    placed->out_sizes.assign(s.out + kAxes - in_sizes.size(), s.out + kAxes);
    s.pixels_in = product_of(s.in), s.pixels_padded = product_of(s.padded), s.pixels_out = product_of(s.out);
    s.planes = engine_->planes && !layer_.rows && !gives_bits() && layer_.strides[2] == 1 && s.out[2] % kPanel == 0;
    s.image_bytes = s.pixels_padded * pixel_bytes;
    s.pixel_step = s.planes ? engine_->word_bytes : pixel_bytes;
    s.word_step = s.planes ? s.pixels_padded * engine_->word_bytes : engine_->word_bytes;

    for (int64_t d = 0; d < layer_.kernel[0]; ++d)
        for (int64_t h = 0; h < layer_.kernel[1]; ++h)
            for (int64_t w = 0; w < layer_.kernel[2]; ++w) {
                const int64_t row = d * layer_.dilations[0] * s.padded[1] + h * layer_.dilations[1];
                const int64_t tap = (row * s.padded[2] + w * layer_.dilations[2]) * s.pixel_step;
                for (int64_t k = 0; k < layer_.words; ++k) placed->places.push_back(tap + k * s.word_step);
            }

    using Taps = std::pair<int32_t, int32_t>;
    std::vector<std::vector<Taps>> taps(kAxes);
    for (int axis = 0; axis < kAxes; ++axis)
        for (int64_t o = 0; o < s.out[axis]; ++o) taps[size_t(axis)].push_back(inside(o, layer_, axis, s.in[axis]));
    const int64_t row_of_bases = layer_.groups * padded;
    std::map<std::vector<Taps>, uint32_t> known;
    for (int64_t d = 0; d < s.out[0]; ++d)
        for (int64_t h = 0; h < s.out[1]; ++h)
            for (int64_t w = 0; w < s.out[2]; ++w) {
                const int64_t row = d * layer_.strides[0] * s.padded[1] + h * layer_.strides[1];
                placed->offsets.push_back(uint32_t((row * s.padded[2] + w * layer_.strides[2]) * s.pixel_step));
                const std::vector<Taps> pattern = {taps[0][size_t(d)], taps[1][size_t(h)], taps[2][size_t(w)]};
                placed->based.push_back(known.emplace(pattern, uint32_t(known.size())).first->second * uint32_t(row_of_bases));
            }

    // A tap outside of the image reads clear bits, and must give nothing: what they give is taken from the base.
    placed->bases.assign(size_t(int64_t(known.size()) * row_of_bases + kBlock), int32_t(layer_.taps * layer_.inputs));
    for (const auto& [pattern, index] : known) {
        int32_t* base = placed->bases.data() + index * row_of_bases;
        for (int64_t tap = 0; tap < layer_.taps; ++tap) {
            const int64_t at[kAxes] = {tap / (layer_.kernel[1] * layer_.kernel[2]), tap / layer_.kernel[2] % layer_.kernel[1], tap % layer_.kernel[2]};
            bool within = true;
            for (int i = 0; i < kAxes; ++i) within &= at[i] >= pattern[size_t(i)].first && at[i] < pattern[size_t(i)].second;
            if (!within)
                for (int64_t i = 0; i < row_of_bases; ++i) base[i] -= sums_[size_t(tap * row_of_bases + i)];
        }
    }
    for (size_t i = 0; gives_bits() && i < placed->bases.size(); ++i) {
        const int64_t o = int64_t(i) % row_of_bases, output = o % padded;
        placed->bases[i] = output < layer_.outputs ? most_differing(placed->bases[i], o / padded * layer_.outputs + output) : -1;
    }
    if (s.pixels_out) {
        const size_t whole = size_t((s.pixels_out + kPanel - 1) / kPanel * kPanel);
        placed->offsets.resize(whole, placed->offsets.back()), placed->based.resize(whole, placed->based.back());
    }
    if (s.planes) placed->base_panels(row_of_bases);
    s.offsets = placed->offsets.data(), s.based = placed->based.data(), s.bases = placed->bases.data(), s.places = placed->places.data();
    return placed_ = placed;
}

// How many bits may differ at most for the bit of an output to be set: sum >= threshold.
int32_t Product::most_differing(int32_t base, int64_t output) const {
    int64_t most = (int64_t(base) - thresholds_[size_t(output)]) >> 1;
    if (flipped_[size_t(output)]) most = layer_.taps * layer_.inputs - most - 1;
    return int32_t(std::min(most, engine_->longest));
}

void Product::run(const std::vector<int64_t>& in_sizes, Tensors t, const ParallelFor& parallel_for) {
    if (layer_.groups > 1 && ((t.x_bits && layer_.inputs % 32) || (t.y_bits && layer_.outputs % 32)))
        throw std::invalid_argument("bits need groups of whole words, of 32 channels");
    if (t.batch == 0 || (layer_.rows && in_sizes.front() == 0)) return;
    const std::shared_ptr<const Placed> placed = place(in_sizes);
    const Sizes& s = placed->sizes;
    const Epilogue epilogue = {scale_.empty() ? nullptr : scale_.data(), shift_.data(), limits_.empty() ? nullptr : limits_.data()};
    if (gives_bits()) t.y = nullptr;

    if (double(t.batch) * double(s.image_bytes) > kMost)
        throw std::invalid_argument("the padded inputs are too large");
    static thread_local Lines<uint8_t> memory;
    const size_t need = size_t(t.batch * s.image_bytes + 64);
    if (memory.size() < need) Lines<uint8_t>().swap(memory), memory.resize(need);
    t.prepared = memory.data();

    const int64_t rows = s.padded[0] * s.padded[1], per_task = std::max<int64_t>(1, (1 << 17) / (1 + s.padded[2] * layer_.groups * layer_.words * 32));
    const int64_t parts = (rows + per_task - 1) / per_task;
    parallel_for(t.batch * parts, [&](int64_t task) {
        const int64_t first = task % parts * per_task;
        engine_->prepare(layer_, s, t, task / parts, first, std::min(first + per_task, rows));
    });

    const int64_t panels = (s.pixels_out + kPanel - 1) / kPanel, blocks = int64_t(blocks_.size());
    const int64_t work = std::max<int64_t>(1, kPanel * kBlock * layer_.taps * layer_.words * 32);
    const int64_t panels_together = std::min(panels, std::max<int64_t>(kTogether, kTask / work / kTogether * kTogether));
    const int64_t chunks = (panels + panels_together - 1) / panels_together;
    parallel_for(t.batch * chunks * blocks, [&](int64_t task) {
        const Block& block = blocks_[size_t(task % blocks)];
        const int64_t image = task / blocks / chunks, first = task / blocks % chunks * panels_together;
        const int64_t last = std::min(first + panels_together, panels);
        for (int64_t panel = first; panel < last; panel += kTogether)
            engine_->compute(layer_, s, t, epilogue, image, panel, std::min<int64_t>(kTogether, last - panel), block);
    });
}

}  // namespace frostline

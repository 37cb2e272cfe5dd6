#include "route.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

namespace araio {
namespace {

// What is added to a sum of weights, as in the published code.
constexpr float kTiny = 1e-20f;

// NaN is below everything, as where NumPy sorts in descending order.
bool is_better(float a, float b) { return a > b || (std::isnan(b) && !std::isnan(a)); }

// Ids of the `count` best of n scores, best first; ties go to the lowest id.
void best(const float* scores, int64_t n, int64_t count, int32_t* ids) {
    int64_t found = 0;
    for (int64_t id = 0; id < n; ++id) {
        if (found == count && !is_better(scores[id], scores[ids[count - 1]])) continue;
        int64_t place = found < count ? found++ : count - 1;
        for (; place > 0 && is_better(scores[id], scores[ids[place - 1]]); --place)
            ids[place] = ids[place - 1];
        ids[place] = static_cast<int32_t>(id);
    }
}

// A group's worth: its best score, or the sum of its two best. NaN counts as the largest, as in NumPy.
float worth(const float* scores, int64_t n, bool is_sum_of_two) {
    float first = -INFINITY, second = -INFINITY;
    for (int64_t i = 0; i < n; ++i) {
        if (std::isnan(scores[i])) return scores[i];
        if (scores[i] > first) {
            second = first;
            first = scores[i];
        } else if (scores[i] > second) {
            second = scores[i];
        }
    }
    return is_sum_of_two ? first + second : first;
}

float sigmoid(float x) {
    const float exponential = std::exp(-std::fabs(x));
    return (x >= 0 ? 1.0f : exponential) / (1.0f + exponential);
}

void softmax(const float* logits, int64_t E, float* scores) {
    const float largest = *std::max_element(logits, logits + E);
    float total = 0;
    for (int64_t e = 0; e < E; ++e) total += scores[e] = std::exp(logits[e] - largest);
    for (int64_t e = 0; e < E; ++e) scores[e] /= total;
}

// One token after the other, with room for the scores of one.
class Router {
  public:
    Router(const Routing& routing, const float* bias, int64_t E)
        : routing_(routing),
          bias_(bias),
          E_(E),
          scores_(static_cast<size_t>(E)),
          for_choice_(static_cast<size_t>(E)),
          group_worth_(static_cast<size_t>(routing.n_group)),
          groups_(static_cast<size_t>(routing.n_group)) {}

    void choose(const float* logits, int32_t* ids, float* weights);

  private:
    void keep_best_groups(float fill);

    const Routing& routing_;
    const float* bias_;
    int64_t E_;
    std::vector<float> scores_, for_choice_, group_worth_;
    std::vector<int32_t> groups_;
};

// Scores for the choice become `fill` outside the best groups.
void Router::keep_best_groups(float fill) {
    const int64_t G = routing_.n_group, size = E_ / G, kept = routing_.topk_group;
    float* const scores = for_choice_.data();
    for (int64_t g = 0; g < G; ++g) {
        group_worth_[static_cast<size_t>(g)] = worth(scores + g * size, size, routing_.is_sigmoid);
    }
    best(group_worth_.data(), G, kept, groups_.data());
    for (int32_t g = 0; g < G; ++g) {
        const bool is_kept = std::find(groups_.data(), groups_.data() + kept, g) != groups_.data() + kept;
        if (!is_kept) std::fill_n(scores + g * size, size, fill);
    }
}

void Router::choose(const float* logits, int32_t* ids, float* weights) {
    const int64_t K = routing_.K;
    if (routing_.is_sigmoid) {
        std::transform(logits, logits + E_, scores_.begin(), sigmoid);
        std::transform(scores_.begin(), scores_.end(), bias_, for_choice_.begin(), std::plus<float>());
        if (routing_.n_group > 1) keep_best_groups(-INFINITY);
    } else {
        softmax(logits, E_, scores_.data());
        for_choice_ = scores_;
        if (routing_.n_group > 1) keep_best_groups(0.0f);
    }
    // The weights of softmax are 0 outside the best groups, those of sigmoid know no groups.
    const std::vector<float>& source = routing_.is_sigmoid ? scores_ : for_choice_;
    best(for_choice_.data(), E_, K, ids);
    float total = 0;
    for (int64_t k = 0; k < K; ++k) total += weights[k] = source[static_cast<size_t>(ids[k])];
    // With softmax either the sum or the factor, and no sum of one; see ops.py.
    const bool is_divided = routing_.is_normalised && (routing_.is_sigmoid || K > 1);
    const float factor = routing_.is_sigmoid || !is_divided ? routing_.factor : 1.0f;
    for (int64_t k = 0; k < K; ++k) {
        if (is_divided) weights[k] /= total + kTiny;
        weights[k] *= factor;
    }
}

}  // namespace

void route(const Routing& routing, const float* logits, const float* bias, int64_t T, int64_t E, int32_t* ids,
           float* weights) {
    Router router(routing, bias, E);
    for (int64_t t = 0; t < T; ++t)
        router.choose(logits + t * E, ids + t * routing.K, weights + t * routing.K);
}

}  // namespace araio

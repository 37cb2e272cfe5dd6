// Which experts each token uses; ops.py has the rule.
#pragma once

#include <stdint.h>

namespace araio {

// The numbers of a config that decide.
struct Routing {
    bool is_sigmoid;  // else softmax
    int64_t n_group;  // 1 where groups play no part
    int64_t topk_group;
    int64_t K;
    bool is_normalised;
    float factor;
};

// logits (T, E), bias (E) or null for softmax; ids and weights (T, K), best first
void route(const Routing& routing, const float* logits, const float* bias, int64_t T, int64_t E, int32_t* ids,
           float* weights);

}  // namespace araio

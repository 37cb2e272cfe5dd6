// `Prepared`: the activations of an operation, in each form that one of its matrices is multiplied by.
#pragma once

#include "matrix.h"
#include "operations.h"
#include "scratch.h"

namespace araio {

class Prepared {
  public:
    // Activations x (T, I), which must stay where they are while this is used.
    void begin(const Operations& operations, const float* x, int64_t T, int64_t I);

    // Makes the form that `codec` wants, once, on the pool's threads where that is worth it.
    void need(Codec codec);

    // A form that was made; safe from several threads.
    const Activations& as(Codec codec) const { return forms_[form_of(codec)]; }

  private:
    enum Form { kPlain, kFp8Order, kIntegers, kForms };
    static Form form_of(Codec codec) {
        return codec == Codec::fp8                        ? kFp8Order
               : codec == Codec::q8 || codec == Codec::q4 ? kIntegers
                                                          : kPlain;
    }

    const Operations* operations_ = nullptr;
    const float* x_ = nullptr;
    int64_t T_ = 0, I_ = 0;
    Activations forms_[kForms] = {};
    bool is_made_[kForms] = {};
    Scratch<float> values_, scales_;
    Scratch<int8_t> integers_;
    Scratch<int32_t> sums_;
};

}  // namespace araio

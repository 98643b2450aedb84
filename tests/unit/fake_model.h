/* fake_model.h: a model as codegen would hand it over, but its entries are plain C.
 *
 * Linear regression on x f32[B, 3], y f32[B]: pred = x·w + b, loss Σ(pred − y)², SGD with momentum.
 * w has a derived bf16 copy.  Four values of y[0] provoke what real models only do by accident: a
 * NaN skips the step, FAKE_BAD_INDEX raises the index fault, FAKE_BAD_UPDATE the non-finite one,
 * FAKE_IDLE leaves the batch without weight.
 */
#ifndef TESTS_FAKE_MODEL_H
#define TESTS_FAKE_MODEL_H

#include "runtime/model.h"

enum { FAKE_BATCH = 8, FAKE_X = 3, FAKE_TOKENS = 4 };
enum { FAKE_INIT, FAKE_DERIVE, FAKE_STEP, FAKE_EVAL, FAKE_INFER, FAKE_NEXT };
enum { FAKE_LOSS, FAKE_LOSS_WEIGHT, FAKE_MAE, FAKE_MAE_WEIGHT };
enum { FAKE_OK = FAKE_MAE_WEIGHT + 1, FAKE_INDEX, FAKE_NONFINITE };

#define FAKE_BAD_INDEX 1e30f
#define FAKE_BAD_UPDATE 2e30f
#define FAKE_IDLE 3e30f

extern const mp_model fake_model;
extern const mp_model fake_model_split; /* holds the last fifth of its data out */
extern const mp_model fake_model_loads; /* has proj.w f32[2, 3], loaded from proj.safetensors */
extern const mp_model fake_model_for_other_cpu;

const mp_api *fake_get_api(uint32_t max_abi);

#endif

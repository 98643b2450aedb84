/* float_mode.h: subnormal numbers read and written as zero (DAZ, FTZ), as inside an entry.
 *
 *     uint64_t saved = float_mode_set();  ...  float_mode_restore(saved);
 *
 * Between the two stand calls: a compiler may move arithmetic of the same function across them.
 * The mode belongs to the thread.  float_mode_set also masks exceptions and rounds to nearest, so
 * the caller's settings cannot leak into a result.  Where the processor offers no such mode
 * FLOAT_MODE_KNOWN is 0 and results that touch subnormals differ.  aarch64 decides what is
 * tiny before rounding, x86 after: a product just under 2^-126 that rounds up to it is 0 there and
 * 2^-126 here.
 */
#ifndef IR_FLOAT_MODE_H
#define IR_FLOAT_MODE_H

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>

enum { FLOAT_MODE_KNOWN = 1 };

static inline uint64_t float_mode_set(void) {
  uint64_t saved = _mm_getcsr();
  _mm_setcsr(0x1f80 | 0x8000 | 0x0040); /* all masked, to nearest; FTZ; DAZ */
  return saved;
}

static inline void float_mode_restore(uint64_t saved) { _mm_setcsr((unsigned)saved); }

#elif defined(__aarch64__)

enum { FLOAT_MODE_KNOWN = 1 };

static inline uint64_t float_mode_set(void) {
  uint64_t saved, mode = 1u << 24; /* FZ; to nearest */
  __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
  __asm__ volatile("msr fpcr, %0" ::"r"(mode));
  return saved;
}

static inline void float_mode_restore(uint64_t saved) {
  __asm__ volatile("msr fpcr, %0" ::"r"(saved));
}

#else

enum { FLOAT_MODE_KNOWN = 0 };
static inline uint64_t float_mode_set(void) { return 0; }
static inline void float_mode_restore(uint64_t saved) { (void)saved; }

#endif
#endif

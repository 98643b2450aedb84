/* cpu.c: everything that depends on the machine: instruction sets, the float mode, cores.
 *
 * A model records the LLVM features its code may use; mp_cpu_lacks asks the processor *and* the
 * operating system (XCR0: who saves the wide registers) for each of them before any of that code
 * runs, so an old machine gets a sentence instead of SIGILL.  A name that the table does not know
 * counts as missing: guessing would bring the SIGILL back.
 *
 * The float mode of an entry is round to nearest, all exceptions masked, subnormals read and
 * written as zero.  It is part of the numbers' meaning, so it is set whole, not bit by bit.
 */
#define _GNU_SOURCE
#include "runtime/rt.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

int mp_cpu_count(void) {
#ifdef __linux__
  cpu_set_t set;
  if (!sched_getaffinity(0, sizeof set, &set)) return CPU_COUNT(&set);
#endif
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? (int)n : 1;
}

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

void mp_cpu_relax(void) { _mm_pause(); }

uint64_t mp_float_enter(void) {
  uint64_t old = _mm_getcsr();
  _mm_setcsr(0x9fc0); /* FTZ, DAZ, exceptions masked, round to nearest */
  return old;
}

void mp_float_leave(uint64_t old) { _mm_setcsr((uint32_t)old); }

enum { EAX, EBX, ECX, EDX };
enum { SSE_STATE = 0x2, AVX_STATE = 0x6, AVX512_STATE = 0xe6, AMX_STATE = 0x60000 }; /* of XCR0 */

typedef struct Feature {
  const char *name;
  uint32_t leaf, sub, reg, bit, state;
} Feature;

/* The features that change what LLVM emits for ordinary code, plus those `native` lists. */
static const Feature features[] = {
    {"64bit", 0x80000001, 0, EDX, 29, 0},
    {"cx8", 1, 0, EDX, 8, 0},
    {"cmov", 1, 0, EDX, 15, 0},
    {"mmx", 1, 0, EDX, 23, 0},
    {"fxsr", 1, 0, EDX, 24, 0},
    {"x87", 1, 0, EDX, 0, 0},
    {"sse", 1, 0, EDX, 25, 0},
    {"sse2", 1, 0, EDX, 26, 0},
    {"sse3", 1, 0, ECX, 0, 0},
    {"pclmul", 1, 0, ECX, 1, 0},
    {"ssse3", 1, 0, ECX, 9, 0},
    {"fma", 1, 0, ECX, 12, AVX_STATE},
    {"cx16", 1, 0, ECX, 13, 0},
    {"sse4.1", 1, 0, ECX, 19, 0},
    {"sse4.2", 1, 0, ECX, 20, 0},
    {"crc32", 1, 0, ECX, 20, 0},
    {"movbe", 1, 0, ECX, 22, 0},
    {"popcnt", 1, 0, ECX, 23, 0},
    {"aes", 1, 0, ECX, 25, 0},
    {"xsave", 1, 0, ECX, 27, 0}, /* OSXSAVE: usable, not only present */
    {"avx", 1, 0, ECX, 28, AVX_STATE},
    {"f16c", 1, 0, ECX, 29, AVX_STATE},
    {"rdrnd", 1, 0, ECX, 30, 0},
    {"fsgsbase", 7, 0, EBX, 0, 0},
    {"bmi", 7, 0, EBX, 3, 0},
    {"avx2", 7, 0, EBX, 5, AVX_STATE},
    {"bmi2", 7, 0, EBX, 8, 0},
    {"invpcid", 7, 0, EBX, 10, 0},
    {"rtm", 7, 0, EBX, 11, 0},
    {"avx512f", 7, 0, EBX, 16, AVX512_STATE},
    {"avx512dq", 7, 0, EBX, 17, AVX512_STATE},
    {"rdseed", 7, 0, EBX, 18, 0},
    {"adx", 7, 0, EBX, 19, 0},
    {"avx512ifma", 7, 0, EBX, 21, AVX512_STATE},
    {"clflushopt", 7, 0, EBX, 23, 0},
    {"clwb", 7, 0, EBX, 24, 0},
    {"avx512cd", 7, 0, EBX, 28, AVX512_STATE},
    {"sha", 7, 0, EBX, 29, 0},
    {"avx512bw", 7, 0, EBX, 30, AVX512_STATE},
    {"avx512vl", 7, 0, EBX, 31, AVX512_STATE},
    {"avx512vbmi", 7, 0, ECX, 1, AVX512_STATE},
    {"pku", 7, 0, ECX, 4, 0},
    {"waitpkg", 7, 0, ECX, 5, 0},
    {"avx512vbmi2", 7, 0, ECX, 6, AVX512_STATE},
    {"shstk", 7, 0, ECX, 7, 0},
    {"gfni", 7, 0, ECX, 8, 0},
    {"vaes", 7, 0, ECX, 9, AVX_STATE},
    {"vpclmulqdq", 7, 0, ECX, 10, AVX_STATE},
    {"avx512vnni", 7, 0, ECX, 11, AVX512_STATE},
    {"avx512bitalg", 7, 0, ECX, 12, AVX512_STATE},
    {"avx512vpopcntdq", 7, 0, ECX, 14, AVX512_STATE},
    {"rdpid", 7, 0, ECX, 22, 0},
    {"cldemote", 7, 0, ECX, 25, 0},
    {"movdiri", 7, 0, ECX, 27, 0},
    {"movdir64b", 7, 0, ECX, 28, 0},
    {"enqcmd", 7, 0, ECX, 29, 0},
    {"uintr", 7, 0, EDX, 5, 0},
    {"avx512vp2intersect", 7, 0, EDX, 8, AVX512_STATE},
    {"serialize", 7, 0, EDX, 14, 0},
    {"tsxldtrk", 7, 0, EDX, 16, 0},
    {"pconfig", 7, 0, EDX, 18, 0},
    {"amx-bf16", 7, 0, EDX, 22, AMX_STATE},
    {"avx512fp16", 7, 0, EDX, 23, AVX512_STATE},
    {"amx-tile", 7, 0, EDX, 24, AMX_STATE},
    {"amx-int8", 7, 0, EDX, 25, AMX_STATE},
    {"avxvnni", 7, 1, EAX, 4, AVX_STATE},
    {"avx512bf16", 7, 1, EAX, 5, AVX512_STATE},
    {"amx-fp16", 7, 1, EAX, 21, AMX_STATE},
    {"hreset", 7, 1, EAX, 22, 0},
    {"avxifma", 7, 1, EAX, 23, AVX_STATE},
    {"avxvnniint8", 7, 1, EDX, 4, AVX_STATE},
    {"avxneconvert", 7, 1, EDX, 5, AVX_STATE},
    {"xsaveopt", 0xd, 1, EAX, 0, AVX_STATE},
    {"xsavec", 0xd, 1, EAX, 1, AVX_STATE},
    {"xsaves", 0xd, 1, EAX, 3, AVX_STATE},
    {"ptwrite", 0x14, 0, EBX, 4, 0},
    {"sahf", 0x80000001, 0, ECX, 0, 0},
    {"lzcnt", 0x80000001, 0, ECX, 5, 0},
    {"sse4a", 0x80000001, 0, ECX, 6, 0},
    {"prfchw", 0x80000001, 0, ECX, 8, 0},
    {"xop", 0x80000001, 0, ECX, 11, AVX_STATE},
    {"fma4", 0x80000001, 0, ECX, 16, AVX_STATE},
    {"tbm", 0x80000001, 0, ECX, 21, 0},
    {"mwaitx", 0x80000001, 0, ECX, 29, 0},
    {"clzero", 0x80000008, 0, EBX, 0, 0},
    {"rdpru", 0x80000008, 0, EBX, 4, 0},
    {"wbnoinvd", 0x80000008, 0, EBX, 9, 0},
};

static uint64_t saved_states(void) {
  uint32_t a, b, c, d, low, high;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return SSE_STATE;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0)); /* _xgetbv would need -mxsave */
  return (uint64_t)high << 32 | low;
}

static bool has_bit(const Feature *f, uint64_t saved) {
  uint32_t r[4];
  if (!__get_cpuid_count(f->leaf, f->sub, &r[EAX], &r[EBX], &r[ECX], &r[EDX])) return false;
  return (r[f->reg] >> f->bit & 1) && (saved & f->state) == f->state;
}

static bool has_feature(const char *name, uint64_t saved) {
  for (size_t i = 0; i < MP_LEN(features); i++)
    if (!strcmp(features[i].name, name)) return has_bit(&features[i], saved);
  return false;
}

const char *mp_cpu_lacks(const char *const *wanted) {
  uint64_t saved = saved_states();
  for (const char *const *f = wanted; f && *f; f++)
    if (!has_feature(*f, saved)) return *f;
  return NULL;
}

bool mp_cpu_dot_pays(void) {
  uint32_t a, name[3];
  return __get_cpuid(0, &a, &name[0], &name[2], &name[1]) && !memcmp(name, "AuthenticAMD", 12);
}

__attribute__((target("avx512f"))) void mp_cpu_dot(const uint32_t *x, const uint32_t *y,
                                                   const float *acc, float *out) {
  __m512 sum = _mm512_loadu_ps(acc);
  __m512i a = _mm512_loadu_si512(x), b = _mm512_loadu_si512(y);
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  _mm512_storeu_ps(out, sum);
}

#elif defined(__aarch64__)

void mp_cpu_relax(void) { __asm__ volatile("yield"); }

uint64_t mp_float_enter(void) {
  uint64_t old, now = 1u << 24; /* FZ; round to nearest; no traps */
  __asm__ volatile("mrs %0, fpcr" : "=r"(old));
  __asm__ volatile("msr fpcr, %0" : : "r"(now));
  return old;
}

void mp_float_leave(uint64_t old) { __asm__ volatile("msr fpcr, %0" : : "r"(old)); }

#else

void mp_cpu_relax(void) {}
uint64_t mp_float_enter(void) { return 0; }
void mp_float_leave(uint64_t old) { (void)old; }

#endif

#if !defined(__x86_64__)

const char *mp_cpu_lacks(const char *const *wanted) {
  (void)wanted; /* the one level that there is runs on every one of these */
  return NULL;
}

bool mp_cpu_dot_pays(void) { return false; }
void mp_cpu_dot(const uint32_t *x, const uint32_t *y, const float *acc, float *out) {
  (void)x, (void)y, (void)acc, (void)out;
}

#endif

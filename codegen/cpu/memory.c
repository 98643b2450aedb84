/* memory.c: loads and stores of a vector of elements at an Index.
 *
 * Neighbouring elements are one vector access, one element for all lanes is a scalar, anything else
 * goes lane by lane.  In a tail (valid < lanes) a vector load takes what lies behind the row: every
 * buffer has BUFFER_SLACK readable bytes behind it.  A store never writes more than its own
 * elements; it is cut into powers of two.  Alignment is promised only as far as the element goes.
 */
#include "codegen/cpu/emit.h"
#include "codegen/cpu/scalar_emit.h"

LLVMValueRef k_operand(const Kernel *k, uint32_t i) { return LLVMGetParam(k->fn, 4 + i); }
LLVMValueRef k_result(const Kernel *k, uint32_t i) {
  return LLVMGetParam(k->fn, 4 + k->body->args.len + i);
}

/* Element offset base + lanes (NULL: none) + lane · step. */
typedef struct Place {
  LLVMValueRef base, lanes;
  int64_t step;
  int scope;
} Place;

static LLVMValueRef times(Kernel *k, LLVMValueRef at, int64_t stride) {
  if (stride == 1) return at;
  LLVMTypeRef t = LLVMTypeOf(at);
  bool vector = LLVMGetTypeKind(t) == LLVMVectorTypeKind;
  LLVMValueRef s = k_splat(k, k_int(k, stride), vector ? LLVMGetVectorSize(t) : 1);
  return LLVMBuildNSWMul(k->b, at, s, "");
}

static void place_add(Kernel *k, LLVMValueRef *sum, LLVMValueRef term) {
  *sum = *sum ? LLVMBuildNSWAdd(k->b, *sum, term, "") : term;
}

typedef struct Term {
  LLVMValueRef at;
  bool lanes, step;
  int64_t stride;
} Term;

/* The scope is known once all terms are, so they are collected first. */
static unsigned collect(Kernel *k, Type t, const Index *ix, Term *terms, int *scope,
                        int64_t *offset) {
  unsigned n = 0;
  int64_t stride = 1;
  for (int i = t.rank - 1; i >= 0; stride *= t.dim[i--]) {
    const Ix *x = &ix->at[i];
    *offset += x->offset * stride;
    if (x->kind == IX_ZERO || (x->kind == IX_AXIS && !k->last[x->axis])) continue;
    const Axis *a = x->kind == IX_AXIS ? &k->axis[k->group[x->axis]] : NULL;
    Term term = {.stride = stride * ix_scale(x), .at = a ? a->at : x->value.v};
    term.lanes = a ? a->kind == AXIS_LANES : x->value.wide;
    term.step = a && a->kind == AXIS_STEP;
    int s = a ? a->scope : x->value.scope;
    if (s > *scope) *scope = s;
    terms[n++] = term;
  }
  return n;
}

static Place place_of(Kernel *k, Type t, const Index *ix) {
  Place p = {.scope = ROOT};
  Term terms[MAX_RANK];
  int64_t offset = 0;
  unsigned n = collect(k, t, ix, terms, &p.scope, &offset);
  k_go(k, p.scope);
  for (unsigned i = 0; i < n; i++) {
    place_add(k, terms[i].lanes ? &p.lanes : &p.base, times(k, terms[i].at, terms[i].stride));
    if (terms[i].step) p.step += terms[i].stride;
  }
  p.base = p.base ? k_plus(k, p.base, offset) : k_int(k, offset);
  return p;
}

static LLVMTypeRef memory_type(const Module *m, DType d) {
  return dtype_bytes[d] == 8   ? m->i64
         : d == DT_f32         ? m->f32
         : dtype_bytes[d] == 4 ? m->i32
         : dtype_bytes[d] == 2 ? m->i16
                               : m->i8;
}

static LLVMValueRef element(Kernel *k, LLVMValueRef p, LLVMTypeRef t, LLVMValueRef offset) {
  return LLVMBuildGEP2(k->b, t, p, &offset, 1, "");
}

static LLVMValueRef load(Kernel *k, LLVMValueRef p, DType d, unsigned lanes) {
  LLVMValueRef v = LLVMBuildLoad2(k->b, k_vector(memory_type(k->m, d), lanes), p, "");
  LLVMSetAlignment(v, dtype_bytes[d]);
  return v;
}

/* LLVM 19 can recurse without end where it narrows one load twice, to the lanes of a tail that are
 * wanted (llvm-project issue 211496 is of that kind, and open); behind a fence it narrows none. */
static LLVMValueRef load_vector(Kernel *k, LLVMValueRef p, DType d) {
  LLVMValueRef v = load(k, p, d, k->lanes);
  if (k->valid == k->lanes || dtype_bytes[d] != 4) return v;
  LLVMTypeRef type = LLVMTypeOf(v);
  v = scalar_fence(k->b, LLVMBuildBitCast(k->b, v, k_vector(k->m->f32, k->lanes), ""));
  return LLVMBuildBitCast(k->b, v, type, "");
}

static LLVMValueRef lane_offset(Kernel *k, const Place *at, unsigned lane) {
  LLVMValueRef o = k_plus(k, at->base, at->step * lane);
  if (!at->lanes) return o;
  LLVMValueRef i = LLVMConstInt(k->m->i32, lane, false);
  return LLVMBuildNSWAdd(k->b, o, LLVMBuildExtractElement(k->b, at->lanes, i, ""), "");
}

static LLVMValueRef load_lanes(Kernel *k, LLVMValueRef p, DType d, const Place *at) {
  LLVMTypeRef t = memory_type(k->m, d);
  LLVMValueRef v = LLVMConstNull(k_vector(t, k->lanes));
  for (unsigned i = 0; i < k->valid; i++) {
    LLVMValueRef x = load(k, element(k, p, t, lane_offset(k, at, i)), d, 1);
    v = LLVMBuildInsertElement(k->b, v, x, LLVMConstInt(k->m->i32, i, false), "");
  }
  return v;
}

static LLVMValueRef from_memory(Kernel *k, LLVMValueRef v, DType d, unsigned lanes) {
  if (d == DT_f32 || dtype_bytes[d] >= 4) return v;
  if (d == DT_i1) return LLVMBuildICmp(k->b, LLVMIntNE, v, LLVMConstNull(LLVMTypeOf(v)), "");
  return LLVMBuildZExt(k->b, v, k_vector(k->m->i32, lanes), "");
}

static LLVMValueRef to_memory(Kernel *k, LLVMValueRef v, DType d, unsigned lanes) {
  if (d == DT_f32 || dtype_bytes[d] >= 4) return v;
  LLVMTypeRef t = k_vector(memory_type(k->m, d), lanes);
  return d == DT_i1 ? LLVMBuildZExt(k->b, v, t, "") : LLVMBuildTrunc(k->b, v, t, "");
}

Val k_load(Kernel *k, LLVMValueRef p, Type t, const Index *ix) {
  Place at = place_of(k, t, ix);
  DType d = (DType)t.dtype;
  bool wide = (at.step || at.lanes) && k->lanes > 1;
  LLVMTypeRef one = memory_type(k->m, d);
  LLVMValueRef v;
  if (!wide) v = load(k, element(k, p, one, at.base), d, 1);
  else if (at.lanes || at.step != 1) v = load_lanes(k, p, d, &at);
  else v = load_vector(k, element(k, p, one, at.base), d);
  return (Val){from_memory(k, v, d, wide ? k->lanes : 1), wide, at.scope};
}

static LLVMValueRef some_lanes(Kernel *k, LLVMValueRef v, unsigned first, unsigned n) {
  LLVMValueRef pick[64];
  if (n == k->lanes) return v;
  for (unsigned i = 0; i < n; i++) pick[i] = LLVMConstInt(k->m->i32, first + i, false);
  if (n == 1) return LLVMBuildExtractElement(k->b, v, pick[0], "");
  LLVMValueRef none = LLVMGetPoison(LLVMTypeOf(v));
  return LLVMBuildShuffleVector(k->b, v, none, LLVMConstVector(pick, n), "");
}

/* A result has the axes of the loops in their order, so its elements are neighbours even where the
 * lanes cross a row and the index is a vector. */
void k_store(Kernel *k, LLVMValueRef p, Type t, const Index *ix, Val v) {
  Place at = place_of(k, t, ix);
  if (at.lanes) {
    LLVMValueRef first = LLVMBuildExtractElement(k->b, at.lanes, LLVMConstNull(k->m->i32), "");
    place_add(k, &at.base, first);
    at.step = 1;
  }
  DType d = (DType)t.dtype;
  unsigned lanes = at.step ? k->lanes : 1, valid = at.step ? k->valid : 1;
  k_go(k, k->scope);
  LLVMValueRef x = v.wide || lanes == 1 ? v.v : k_splat(k, v.v, lanes);
  x = to_memory(k, x, d, lanes);
  LLVMTypeRef elem = memory_type(k->m, d);
  for (unsigned done = 0, n = lanes; n > 0; n /= 2) {
    if (done + n > valid) continue;
    LLVMValueRef o = k_plus(k, at.base, done);
    LLVMValueRef part = lanes == 1 ? x : some_lanes(k, x, done, n);
    LLVMSetAlignment(LLVMBuildStore(k->b, part, element(k, p, elem, o)), dtype_bytes[d]);
    done += n;
  }
}

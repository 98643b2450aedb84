"""A compiled model as a Python object: the C ABI of runtime/mpcc_rt.h through ctypes.

    m = Model("mlp.so", threads=2)
    m.init(1)
    r = m.run("train_step", images=x, labels=t)     # r.committed, r.loss, r.weight
    m.get("net.0.weight")                           # the state itself: a read-only NumPy view

Nothing is copied: inputs are borrowed by the library (this object keeps them alive), states and
outputs are views of its memory.  NumPy has no bf16: such tensors are u16 (widen() makes f32).
"""
import ctypes as C

import numpy as np

ABI, NEW_TOTAL = 1, 1
OK, E_ARG, E_MEMORY, E_CPU, E_IO, E_FORMAT, E_INDEX, E_NONFINITE, E_CANCELLED = range(0, -9, -1)
PARAM, STATE, MOMENT, COUNTER, DERIVED, SHADOW, PART = range(7)
VALUE, SUM, WEIGHT, IS_OK, FAULT_INDEX, FAULT_NONFINITE, HYPER, FINITE, GAUGE, WATCH = range(10)
INIT, STEP, EVAL, INFER, FIT, DERIVE, GRADS, APPLY, CALIBRATE, REPLAY, ORIGIN = range(11)

# In the order of mp_dtype; the second of each: as NumPy sees it.
DTYPES = [("f32", "f4"), ("bf16", "u2"), ("f16", "f2"), ("f8e4m3fn", "u1"), ("f8e5m2", "u1"),
          ("f8e8m0", "u1"), ("i64", "i8"), ("i32", "i4"), ("u32", "u4"), ("u16", "u2"),
          ("u8", "u1"), ("i1", "?")]
# DLPack's (code, bits) of what NumPy can hold; 4 is bfloat.
NUMPY_OF = {(2, 32): "f4", (2, 64): "f8", (2, 16): "f2", (4, 16): "u2", (0, 64): "i8",
            (0, 32): "i4", (1, 32): "u4", (1, 16): "u2", (1, 8): "u1", (6, 8): "?",
            (10, 8): "u1", (12, 8): "u1", (14, 8): "u1"}  # codes of fp8 and e8m0
DLPACK_OF = {np.dtype(kind): key for key, kind in NUMPY_OF.items() if key[0] in (0, 1, 2, 6)}

P, I32, U32, I64, U64 = C.c_void_p, C.c_int32, C.c_uint32, C.c_int64, C.c_uint64


def struct(title, /, **fields):
    return type(title, (C.Structure,), {"_fields_": list(fields.items())})


Tensor = struct("Tensor", name=C.c_char_p, dtype=I32, ndim=I32, dims=I64 * 8, rows=I32,
                reserved=I32)
StateDesc = struct("StateDesc", tensor=Tensor, kind=I32, master=I32, flags=U32, reserved=U32)
OutputDesc = struct("OutputDesc", tensor=Tensor, role=I32, where=C.c_char_p)
EntryDesc = struct("EntryDesc", name=C.c_char_p, kind=I32, flags=U32, batch=I64, n_inputs=U32, n_outputs=U32,
                   inputs=C.POINTER(Tensor), outputs=C.POINTER(OutputDesc))
HyperDesc = struct("HyperDesc", name=C.c_char_p, value=C.c_double, shown=C.c_char_p)
Desc = struct("Desc", abi=U32, size=U32, name=C.c_char_p, source=C.c_char_p,
              source_hash=C.c_char_p, compiler=C.c_char_p, target=C.c_char_p,
              precision=C.c_char_p, n_entries=U32, n_states=U32, n_hypers=U32,
              entries=C.POINTER(EntryDesc), states=C.POINTER(StateDesc),
              hypers=C.POINTER(HyperDesc), arena_bytes=U64, state_bytes=U64, default_steps=I64,
              default_epochs=I64, n_sources=U32, n_formulas=U32, n_loads=U32, split=I32,
              split_fraction=C.c_double, sources=P, formulas=P, loads=P,
              policy=C.c_char_p)
Device = struct("Device", type=I32, id=I32)
Kind = struct("Kind", code=C.c_uint8, bits=C.c_uint8, lanes=C.c_uint16)
View = struct("View", data=P, device=Device, ndim=I32, dtype=Kind, shape=C.POINTER(I64),
              strides=C.POINTER(I64), byte_offset=U64)
Options = struct("Options", struct_size=C.c_size_t, threads=C.c_int, log=P, alloc=P, free=P, user=P,
                 cpu=C.c_char_p)
Run = struct("Run", struct_size=C.c_size_t, rows=I64, draw=U64, flags=U32, reserved=U32,
             weights=C.POINTER(C.c_double), n_weights=U32)
Result = struct("Result", struct_size=C.c_size_t, committed=C.c_int, loss=C.c_double,
                weight=C.c_double)
Origin = struct("Origin", struct_size=C.c_size_t, where=C.c_char_p, value=C.c_double, ndim=I32,
                at=I64 * 8, dtype=I32, scale=C.c_double)
Error = struct("Error", text=C.c_char * 512)

F = C.CFUNCTYPE
Api = struct("Api", abi=U32, size=U32, desc=C.POINTER(Desc),
             create=F(C.c_int, C.POINTER(Options), C.POINTER(P), C.POINTER(Error)),
             init=F(C.c_int, P, U64),
             bind=F(C.c_int, P, U32, U32, P, C.c_size_t),
             run=F(C.c_int, P, U32, C.POINTER(Run), C.POINTER(Result)),
             get=F(C.c_int, P, C.c_char_p, C.POINTER(View)),
             set=F(C.c_int, P, C.c_char_p, C.POINTER(View)),
             output=F(C.c_int, P, U32, U32, C.POINTER(View)),
             hyper=F(C.c_int, P, C.c_char_p, C.c_double),
             save=F(C.c_int, P, C.c_char_p), load=F(C.c_int, P, C.c_char_p, P),
             save_to=F(C.c_int, P, P, P), load_from=F(C.c_int, P, P, P),
             cancel=F(None, P), error=F(C.c_char_p, P), destroy=F(None, P),
             origin=F(C.c_int, P, U32, C.POINTER(Origin)),
             replay=F(C.c_int, P, U32, C.POINTER(Origin)))


class ModelError(Exception):
    def __init__(self, status, text):
        super().__init__(f"{text} ({status})")
        self.status = status


class Entry:
    def __init__(self, index, d):
        self.index, self.kind, self.batch = index, d.kind, d.batch
        self.name = d.name.decode()
        self.inputs = {t.name.decode(): t for t in d.inputs[:d.n_inputs]}
        self.outputs = [(o.tensor.name.decode(), o.role) for o in d.outputs[:d.n_outputs]]


def dims_of(t):
    return tuple(t.dims[:t.ndim])


def widen(bf16):
    """u16 that hold bf16 as f32, exactly."""
    return (bf16.astype(np.uint32) << 16).view(np.float32)


def widen_f8e4m3fn(codes):
    """What each code stands for, as f32: 4 bits of exponent, 3 of mantissa, no infinity."""
    c = np.arange(256)
    sign, e, m = np.where(c < 128, 1, -1), c >> 3 & 15, (c & 7) / 8
    value = sign * np.where(e == 0, m * 2.0**-6, (1 + m) * 2.0 ** (e - 7.0))
    return np.where(c & 127 == 127, np.nan, value).astype(np.float32)[codes]


def widen_f8e8m0(codes):
    """Powers of two, from 2^-127."""
    with np.errstate(over="ignore"):
        value = np.float32(2.0) ** (np.arange(256) - 127.0).astype(np.float32)
    value[255] = np.nan
    return value[codes]


def array_of(view):
    shape = tuple(view.shape[:view.ndim])
    kind = np.dtype(NUMPY_OF[view.dtype.code, view.dtype.bits])
    size = kind.itemsize * int(np.prod(shape, dtype=np.int64))
    memory = (C.c_char * size).from_address(view.data + view.byte_offset)
    array = np.frombuffer(memory, kind).reshape(shape)
    array.flags.writeable = False
    return array


class Model:
    def __init__(self, path, threads=0, cpu=None):
        name = str(path).rsplit("/", 1)[-1].rsplit(".", 1)[0]
        self.ctx, self.bound = P(), {}
        get_api = getattr(C.CDLL(str(path)), "".join(c if c.isalnum() else "_" for c in name) +
                          "_get_api")
        get_api.restype, get_api.argtypes = C.POINTER(Api), [U32]
        self.api = get_api(ABI).contents
        self.desc = d = self.api.desc.contents
        self.entries = {e.name: e for e in map(Entry, range(d.n_entries), d.entries[:d.n_entries])}
        self.states = {s.tensor.name.decode(): s for s in d.states[:d.n_states]}
        error = Error()
        options = Options(struct_size=C.sizeof(Options), threads=threads, cpu=cpu)
        status = self.api.create(C.byref(options), C.byref(self.ctx), C.byref(error))
        if status:
            raise ModelError(status, error.text.decode())

    def check(self, status):
        if status:
            raise ModelError(status, self.api.error(self.ctx).decode())

    def paths(self, *kinds):
        return [path for path, s in self.states.items() if s.kind in kinds]

    def init(self, seed):
        self.check(self.api.init(self.ctx, seed))

    def bind(self, entry, name, array):
        e = self.entries[entry]
        t = e.inputs[name]
        assert array.flags.c_contiguous and array.dtype == np.dtype(DTYPES[t.dtype][1]), name
        assert array.shape[1:] == dims_of(t)[1:], (name, array.shape)
        self.bound[entry, name] = array
        self.check(self.api.bind(self.ctx, e.index, list(e.inputs).index(name), array.ctypes.data,
                                 array.nbytes))

    def run(self, entry, rows=None, new_total=True, draw=0, weights=None, **inputs):
        e = self.entries[entry]
        for name, array in inputs.items():
            self.bind(entry, name, array)
        run = Run(C.sizeof(Run), rows or e.batch or 1, draw, NEW_TOTAL if new_total else 0)
        if weights is not None:
            run.weights, run.n_weights = (C.c_double * len(weights))(*weights), len(weights)
        result = Result(struct_size=C.sizeof(Result))
        self.check(self.api.run(self.ctx, e.index, C.byref(run), C.byref(result)))
        return result

    def get(self, path):
        view = View()
        self.check(self.api.get(self.ctx, path.encode(), C.byref(view)))
        return array_of(view)

    def set(self, path, array):
        """u16 for a state of bf16 are its bits."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))  # ascontiguous… makes () (1,)
        shape = (I64 * max(array.ndim, 1))(*array.shape)
        state, kind = self.states.get(path), DLPACK_OF[array.dtype]
        if state and kind == (1, 16) and DTYPES[state.tensor.dtype][0] == "bf16":
            kind = 4, 16
        view = View(array.ctypes.data, Device(1, 0), array.ndim, Kind(*kind, 1), shape, None, 0)
        self.check(self.api.set(self.ctx, path.encode(), C.byref(view)))

    def outputs(self, entry):
        """(name, role) -> view; a total (SUM, WEIGHT) is f64."""
        e, found = self.entries[entry], {}
        for i, key in enumerate(e.outputs):
            view = View()
            self.check(self.api.output(self.ctx, e.index, i, C.byref(view)))
            found[key] = array_of(view)
        return found

    def origin(self, entry):
        """(where, value, element) of the step that was just skipped; where None: nothing."""
        o = Origin(struct_size=C.sizeof(Origin))
        self.check(self.api.origin(self.ctx, self.entries[entry].index, C.byref(o)))
        return o.where and o.where.decode(), o.value, tuple(o.at[:o.ndim])

    def replay(self, entry):
        """The same in f32: (where, value, element); finite: the largest |x| of what origin names."""
        o = Origin(struct_size=C.sizeof(Origin))
        self.check(self.api.replay(self.ctx, self.entries[entry].index, C.byref(o)))
        return o.where and o.where.decode(), o.value, tuple(o.at[:o.ndim])

    def hyper(self, name, value):
        self.check(self.api.hyper(self.ctx, name.encode(), value))

    def save(self, path):
        self.check(self.api.save(self.ctx, str(path).encode()))

    def load(self, path):
        self.check(self.api.load(self.ctx, str(path).encode(), None))

    def close(self):
        if self.ctx:
            self.api.destroy(self.ctx)
        self.ctx = P()

    __del__ = close

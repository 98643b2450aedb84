"""The same model from Python: ctypes and NumPy, no other package.  States and outputs are NumPy views of
the library's memory, through DLPack's layout: nothing is copied.

    mpcc ../mlp.mp -o mlp.so
    python3 train.py ./mlp.so            # data are made up: a bright block for each class

The classes below are all that is needed of mpcc_rt.h.
"""
import ctypes as C
import sys

import numpy as np

P, I32, U32, I64, U64 = C.c_void_p, C.c_int32, C.c_uint32, C.c_int64, C.c_uint64
ABI, NEW_TOTAL = 1, 1


def struct(title, /, **fields):
    return type(title, (C.Structure,), {"_fields_": list(fields.items())})


def function(result, *arguments):
    return C.CFUNCTYPE(result, *arguments)


Tensor = struct("Tensor", name=C.c_char_p, dtype=I32, ndim=I32, dims=I64 * 8, rows=I32, reserved=I32)
Output = struct("Output", tensor=Tensor, role=I32, where=C.c_char_p)
Entry = struct("Entry", name=C.c_char_p, kind=I32, flags=U32, batch=I64, n_inputs=U32, n_outputs=U32,
               inputs=C.POINTER(Tensor), outputs=C.POINTER(Output))
Desc = struct("Desc", abi=U32, size=U32, name=C.c_char_p, source=C.c_char_p, source_hash=C.c_char_p,
              compiler=C.c_char_p, target=C.c_char_p, precision=C.c_char_p, n_entries=U32,
              n_states=U32, n_hypers=U32, entries=C.POINTER(Entry))  # and more behind
View = struct("View", data=P, device_type=I32, device_id=I32, ndim=I32, code=C.c_uint8, bits=C.c_uint8,
              lanes=C.c_uint16, shape=C.POINTER(I64), strides=C.POINTER(I64), byte_offset=U64)
Run = struct("Run", struct_size=C.c_size_t, rows=I64, draw=U64, flags=U32)
Result = struct("Result", struct_size=C.c_size_t, committed=C.c_int, loss=C.c_double, weight=C.c_double)
Error = struct("Error", text=C.c_char * 512)
Api = struct("Api", abi=U32, size=U32, desc=C.POINTER(Desc),
             create=function(C.c_int, P, C.POINTER(P), C.POINTER(Error)),
             init=function(C.c_int, P, U64),
             bind=function(C.c_int, P, U32, U32, P, C.c_size_t),
             run=function(C.c_int, P, U32, C.POINTER(Run), C.POINTER(Result)),
             get=function(C.c_int, P, C.c_char_p, C.POINTER(View)),
             set=function(C.c_int, P, C.c_char_p, C.POINTER(View)),
             output=function(C.c_int, P, U32, U32, C.POINTER(View)),
             hyper=function(C.c_int, P, C.c_char_p, C.c_double),
             save=function(C.c_int, P, C.c_char_p), load=function(C.c_int, P, C.c_char_p, P),
             save_to=P, load_from=P, cancel=function(None, P), error=function(C.c_char_p, P),
             destroy=function(None, P))

KINDS = {(2, 32): "f4", (2, 64): "f8", (2, 16): "f2", (4, 16): "u2", (0, 64): "i8", (0, 32): "i4",
         (1, 32): "u4", (1, 16): "u2", (1, 8): "u1", (6, 8): "?"}  # DLPack's (code, bits)


class Model:
    def __init__(self, path):
        name = path.rsplit("/", 1)[-1].removesuffix(".so")
        get_api = getattr(C.CDLL(path), name + "_get_api")
        get_api.restype = C.POINTER(Api)
        self.api, self.ctx, self.bound = get_api(ABI).contents, P(), {}
        error = Error()
        if self.api.create(None, C.byref(self.ctx), C.byref(error)):
            raise RuntimeError(error.text.decode())
        d = self.api.desc.contents
        self.entries = {d.entries[i].name.decode(): (i, d.entries[i]) for i in range(d.n_entries)}

    def check(self, status):
        if status:
            raise RuntimeError(self.api.error(self.ctx).decode())

    def array(self, view):
        shape, kind = tuple(view.shape[:view.ndim]), np.dtype(KINDS[view.code, view.bits])
        size = kind.itemsize * int(np.prod(shape, dtype=np.int64))
        memory = (C.c_char * size).from_address(view.data + view.byte_offset)
        return np.frombuffer(memory, kind).reshape(shape)

    def get(self, path):
        """A state, as it is now and as every step will change it."""
        view = View()
        self.check(self.api.get(self.ctx, path.encode(), C.byref(view)))
        return self.array(view)

    def run(self, entry, flags=0, **inputs):
        index, e = self.entries[entry]
        names = [e.inputs[i].name.decode() for i in range(e.n_inputs)]
        for name, array in inputs.items():
            array = np.ascontiguousarray(array)
            self.bound[entry, name] = array  # borrowed: it must live as long as it is bound
            self.check(self.api.bind(self.ctx, index, names.index(name), array.ctypes.data, array.nbytes))
        rows = len(next(iter(inputs.values())))
        run, result = Run(C.sizeof(Run), rows, 0, flags), Result(C.sizeof(Result))
        self.check(self.api.run(self.ctx, index, C.byref(run), C.byref(result)))
        return result

    def close(self):
        self.api.destroy(self.ctx)


def batch(rng, rows=64):
    labels = rng.integers(0, 8, rows, dtype=np.uint8)
    images = rng.integers(0, 60, (rows, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels):
        image[3 * label:3 * label + 3] += 150
    return images, labels


def main():
    model, rng = Model(sys.argv[1]), np.random.default_rng(1)
    model.check(model.api.init(model.ctx, 1))
    model.check(model.api.hyper(model.ctx, b"steps", 60))
    weight = model.get("net.0.weight")
    before = weight.copy()
    for _ in range(60):
        images, labels = batch(rng)
        result = model.run("train_step", images=images, labels=labels)
    moved = np.abs(weight - before).max()  # the view follows the state
    images, labels = batch(rng, 50)
    test = model.run("eval", NEW_TOTAL, images=images, labels=labels)
    print(f"loss {result.loss:.4f}, of new data {test.loss:.4f}; {weight.shape} moved by {moved:.3g}")
    model.close()
    return 0 if test.loss < 0.5 and moved > 0 else 1


if __name__ == "__main__":
    sys.exit(main())

// train.cpp: the same model behind a small C++ class: errors are exceptions, memory frees itself, two
// contexts of one library train at the same time in two threads and end with the same bits.
//
//   mpcc ../mlp.mp -o mlp.a && mpcc ../mlp.mp -o mlp.h
//   c++ -std=c++17 train.cpp mlp.a -lz -lm -pthread -o train
//   ./train            (data are made up: a bright block for each class)
#include "mlp.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

class Model {
 public:
  explicit Model(int threads = 1) {
    mp_options o{};
    o.struct_size = sizeof o;
    o.threads = threads;
    mp_error e{};
    mp_ctx *c = nullptr;
    if (!api_) throw std::runtime_error("this model is newer than this program");
    if (api_->create(&o, &c, &e)) throw std::runtime_error(e.text);
    ctx_.reset(c);
  }

  void init(std::uint64_t seed, double steps) {
    check(api_->init(ctx_.get(), seed));
    check(api_->hyper(ctx_.get(), "steps", steps));
  }

  // Both vectors must live until the next step.
  mp_result step(const std::vector<std::uint8_t> &images, const std::vector<std::uint8_t> &labels) {
    const auto rows = static_cast<std::int64_t>(labels.size());
    mp_run run{};
    run.struct_size = sizeof run;
    run.rows = rows;
    mp_result r{};
    r.struct_size = sizeof r;
    check(mlp_train_step_bind_images(api_, ctx_.get(), images.data(), rows));
    check(mlp_train_step_bind_labels(api_, ctx_.get(), labels.data(), rows));
    check(api_->run(ctx_.get(), mlp_TRAIN_STEP, &run, &r));
    return r;
  }

  // The whole state as bytes: a checkpoint that never touched a disk.
  std::string bytes() {
    std::string out;
    check(api_->save_to(ctx_.get(), append, &out));
    return out;
  }

  void restore(const std::string &bytes) {
    Rest rest{bytes.data(), bytes.size()};
    check(api_->load_from(ctx_.get(), take, &rest));
  }

 private:
  struct Rest {
    const char *at;
    std::size_t left;
  };

  static int append(void *user, const void *p, std::size_t n) {
    static_cast<std::string *>(user)->append(static_cast<const char *>(p), n);
    return 0;
  }

  static int take(void *user, void *p, std::size_t n) {
    auto *rest = static_cast<Rest *>(user);
    if (n > rest->left) return -1;
    std::memcpy(p, rest->at, n);
    rest->at += n;
    rest->left -= n;
    return 0;
  }

  void check(int status) const {
    if (status) throw std::runtime_error(api_->error(ctx_.get()));
  }

  struct Destroy {
    void operator()(mp_ctx *c) const { mlp_get_api(MP_ABI)->destroy(c); }
  };

  const mp_api *api_ = mlp_get_api(MP_ABI);
  std::unique_ptr<mp_ctx, Destroy> ctx_;
};

struct Batch {
  std::vector<std::uint8_t> images, labels;
};

static Batch make_batch(unsigned seed) {
  Batch b;
  for (int r = 0; r < mlp_TRAIN_STEP_BATCH; r++) {
    const auto label = static_cast<std::uint8_t>((seed += 2654435761u) >> 16 & 7);
    b.labels.push_back(label);
    for (int i = 0; i < 28 * 28; i++) b.images.push_back(i / 28 / 3 == label ? 200 : 30);
  }
  return b;
}

static double train(Model &model, int steps) {
  double loss = 0;
  for (int i = 0; i < steps; i++) {
    const Batch b = make_batch(static_cast<unsigned>(i));
    loss = model.step(b.images, b.labels).loss;
  }
  return loss;
}

int main() try {
  Model a(1), b(2); // one and two threads: the same bits
  a.init(1, 40);
  b.init(1, 40);
  std::thread other([&] { train(b, 20); });
  const double loss = train(a, 20);
  other.join();
  const std::string state = a.bytes();
  std::printf("loss %.4f, two contexts %s\n", loss, state == b.bytes() ? "agree" : "DIFFER");

  Model c(1); // goes on from the bytes, as if nothing had happened
  c.restore(state);
  const bool same = train(c, 3) == train(a, 3);
  std::printf("restored: %s\n", same ? "goes on the same" : "DIFFERS");
  try {
    a.restore(state.substr(0, state.size() - 1));
  } catch (const std::runtime_error &e) {
    std::printf("a damaged one: %s\n", e.what());
  }
  return !same || loss > 1;
} catch (const std::exception &e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}

/* test_cli.c: the command line of a training program, run as its users run it.
 *
 *   test_cli PATH_OF_fake_train          works in the directory test_cli.tmp, which it makes
 *
 * Each case is a shell command, the exit code it must have and words it must print.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/check.h"

enum { ROWS = 203, EVAL_ROWS = 37 };

#define DATA "--data x=x.idx --data y=y.idx "
#define EVAL "--eval-data x=ex.idx --eval-data y=ey.idx "

static int run(const char *command, char *out, size_t size) {
  FILE *p = popen(command, "r");
  size_t n = p ? fread(out, 1, size - 1, p) : 0;
  out[n] = 0;
  int status = p ? pclose(p) : -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* `words`: parts that the output must hold, separated by '|'; "!x": must not. */
static int holds(const char *out, const char *words) {
  char list[512], *rest = list;
  snprintf(list, sizeof list, "%s", words);
  for (char *w; (w = strsep(&rest, "|"));) {
    int absent = *w == '!';
    if ((strstr(out, w + absent) != NULL) == absent) return 0;
  }
  return 1;
}

static void expect(Checks *c, int code, const char *words, const char *command) {
  char out[1 << 16], whole[1024];
  snprintf(whole, sizeof whole, "exec 2>&1; %s", command);
  int found = run(whole, out, sizeof out);
  if (!CHECK(c, found == code && holds(out, words)))
    fprintf(stderr, "  %s\n  exit %d, expected %d and: %s\n%s\n", command, found, code, words, out);
}

/* ---- data ---- */

static void put_u32(FILE *f, uint32_t u) {
  for (int shift = 24; shift >= 0; shift -= 8) fputc((int)(u >> shift & 0xff), f);
}

static void put_f32(FILE *f, float v) {
  uint32_t u;
  memcpy(&u, &v, sizeof u);
  put_u32(f, u);
}

static float x_at(uint32_t r, uint32_t i) {
  return (float)((r * 2654435761u + i * 40503u) >> 16 & 0xff) / 256;
}

static void write_x(const char *path, uint32_t rows, uint32_t columns) {
  FILE *f = fopen(path, "wb");
  put_u32(f, 0x0d02);
  put_u32(f, rows);
  put_u32(f, columns);
  for (uint32_t r = 0; r < rows; r++)
    for (uint32_t i = 0; i < columns; i++) put_f32(f, x_at(r, i));
  fclose(f);
}

/* From row `bad` on, y is `value`. */
static void write_y(const char *path, uint32_t rows, uint32_t bad, float value) {
  FILE *f = fopen(path, "wb");
  put_u32(f, 0x0d01);
  put_u32(f, rows);
  for (uint32_t r = 0; r < rows; r++)
    put_f32(f, r >= bad ? value : 1 + 2 * x_at(r, 0) - x_at(r, 1) + 0.5f * x_at(r, 2));
  fclose(f);
}

static void write_all(void) {
  write_x("x.idx", ROWS, 3);
  write_y("y.idx", ROWS, ROWS, 0);
  write_x("ex.idx", EVAL_ROWS, 3);
  write_y("ey.idx", EVAL_ROWS, EVAL_ROWS, 0);
  write_x("wide.idx", ROWS, 4);
  write_y("short.idx", ROWS - 1, ROWS, 0);
  write_y("nan.idx", ROWS, 0, NAN);
  write_y("some-nan.idx", ROWS, ROWS - 5, NAN);
  write_y("index.idx", ROWS, 0, 1e30f);
  write_y("update.idx", ROWS, 0, 2e30f);
  write_y("idle.idx", ROWS, 0, 3e30f);
}

/* ---- cases ---- */

static void test_usage(Checks *c) {
  expect(c, 0, "usage:|f32[rows, 3]|linear(0.1, to: 0)|--eval-every|2 epochs", "./t --help");
  expect(c, 0, "Fake|fake.mp|w:m|4 weights", "./t info");
  expect(c, 0,
         "metrics of totals: rmse, other, twice|eval without --eval-data: the last 0.2 of the",
         "./split --help");
  expect(c, 2, "unknown flag '--stesp', did you mean '--steps'?", "./t --stesp 5");
  expect(c, 2, "unknown command 'evla', did you mean 'eval'?", "./t evla");
  expect(c, 2, "--steps needs a whole number of at least 1, found '1e3'", "./t --steps 1e3");
  expect(c, 2, "--steps needs N", "./t --steps");
  expect(c, 2, "--quiet takes no value", "./t --quiet=1");
  expect(c, 2, "not both", "./t --steps 5 --epochs=2");
  expect(c, 2, "does not go with this command", "./t eval --steps 5");
  expect(c, 2, "unexpected 'x.idx'", "./t --steps 5 x.idx");
  expect(c, 2, "no data for 'x': --data x=FILE", "./t --steps 5");
  expect(c, 2, "no input 'xx', did you mean 'x'?", "./t --steps 5 --data xx=x.idx");
  expect(c, 2, "which input?", "./t --steps 5 --data x.idx");
  expect(c, 2, "'x' is given twice", "./t " DATA "--data x=x.idx");
  expect(c, 2, "no hyperparameter 'ls', did you mean 'lr'?", "./t " DATA "--set ls=1");
  expect(c, 2, "'fast' is not a number", "./t " DATA "--set lr=fast");
  expect(c, 2, "NAME=VALUE", "./t " DATA "--set lr");
  expect(c, 2, "--steps N", "./t " DATA "--set steps=4");
  expect(c, 2, "needs --eval-data", "./t " DATA "--eval-every 3");
}

static void test_data(Checks *c) {
  expect(c, 1, "'wide.idx' does not fit 'x': expected f32[rows, 3], found f32[203, 4]",
         "./t --data x=wide.idx --data y=y.idx");
  expect(c, 1, "'x' has 203 rows, 'y' has 202", "./t --data x=x.idx --data y=short.idx");
  expect(c, 1, "cannot open 'none.idx'", "./t --data x=none.idx --data y=y.idx");
  expect(c, 1, "not an IDX file (it begins with",
         "cp ./t elf.idx; ./t --data x=elf.idx --data y=y.idx");
  expect(c, 1,
         "20 steps in a row were skipped, the last at step 20: fake.mp:8:1: loss:mse is not finite",
         "./t --data x=x.idx --data y=nan.idx");
  expect(c, 1, "fake.mp:7:3: gather: a run-time index", "./t --data x=x.idx --data y=index.idx");
  expect(c, 1, "update of 'w' became non-finite at step 1|!done",
         "./t --data x=x.idx --data y=update.idx --save nothing; r=$?; ls nothing; exit $r");
  expect(c, 0, "skipped|done", "./t --data x=x.idx --data y=some-nan.idx");
  expect(c, 0, "done  52 steps|skipped 52|!in a row", "./t --data x=x.idx --data y=idle.idx");
  expect(c, 1, "20 steps in a row were skipped, the last at step 46",
         "./t --data x=x.idx --data y=nan.idx --steps 10 --save row --quiet &&"
         "./t --data x=x.idx --data y=idle.idx --resume row --steps 36 --save row --quiet &&"
         "./t --data x=x.idx --data y=nan.idx --resume row --steps 90 --quiet");
}

static void test_training(Checks *c) {
  expect(c, 0, "step 52/52|done  52 steps|eval  loss |(37 rows)|!skipped", "./t " DATA EVAL);
  expect(c, 0, "step 10/130|step 130/130", "./t " DATA "--epochs 5 --print-every 10");
  expect(c, 0, "  rmse 0.|  twice 0.|  lr |  grad_norm |!other", "./t " DATA);
  expect(c, 0, "\"lr\":0.098|\"grad_norm\":|\"rmse\":",
         "./t " DATA "--log log >/dev/null; sed -n 2p log");
  expect(c, 0, "eval  loss|!done|!step", "./t " DATA EVAL "--quiet");
  expect(c, 0, "(37 rows)", "./t " DATA EVAL "--save s --steps 20 && ./t eval --resume s " EVAL);
  expect(c, 0, "52\n2\n{\"step\":52,\"epoch\":1,|\"mae\":|\"skipped\":false,\"seconds\":",
         "./t " DATA EVAL
         "--log log --eval-every 26 --quiet >/dev/null; grep -c '^{\"step\".*}$' log;"
         "grep -c '^{\"eval\":true' log; grep '\"step\":52,\"epoch' log");
  expect(c, 0, "\"skipped\":true|\"loss\":null",
         "./t --data x=x.idx --data y=some-nan.idx --log log >/dev/null; grep null log | head -1");
  expect(c, 0, "!differ",
         "for n in 1 2 3; do ./t " DATA "--threads $n --save th$n --quiet; done;"
         "cmp th1/*/model.safetensors th2/*/model.safetensors &&"
         "cmp th1/*/model.safetensors th3/*/model.safetensors");
}

/* 203 rows: 163 train, 40 are held out; --eval-data gives all 203 to training. */
static void test_split(Checks *c) {
  expect(c, 0, "step 42/42|(40 rows)", "./split " DATA);
  expect(c, 0, "step 52/52|(37 rows)", "./split " DATA EVAL);
  expect(c, 0, "3", "./split " DATA "--eval-every 20 | grep -c '(40 rows)'");
  expect(c, 0, "(40 rows)", "./split " DATA "--quiet --save sp && ./split eval --resume sp " DATA);
  expect(c, 2, "eval needs --eval-data: Fake has no split", "./t eval --resume sp " DATA);
  expect(c, 2, "eval needs --resume DIR or --load FILE", "./t eval " EVAL);
  expect(c, 2, "no data for 'x'", "./split eval --resume sp");
}

/* proj.safetensors: layer.proj.weight, f32[3, 2]. */
static void test_loads(Checks *c) {
  static const char header[] = "{\"layer.proj.weight\":{\"dtype\":\"F32\",\"shape\":[3,2],"
                               "\"data_offsets\":[0,24]}}";
  expect(c, 1, "cannot open 'proj.safetensors'", "./loads " DATA);
  FILE *f = fopen("proj.safetensors", "wb");
  fprintf(f, "%c%*s%s%24s", (int)strlen(header), 7, "", header, "");
  fclose(f);
  expect(c, 0, "", "tr ' ' '\\0' <proj.safetensors >p && mv p proj.safetensors");
  expect(c, 0, "done  52 steps", "./loads " DATA "--save ld");
  expect(c, 0, "done  8 steps", "./loads " DATA "--resume ld --steps 60");
  expect(c, 1, "'proj.w' is not what it was",
         "sed 's/\\x00$/A/' proj.safetensors >p;"
         "mv proj.safetensors q; mv p proj.safetensors; ./loads " DATA "--resume ld --steps 60;"
         "r=$?; mv q proj.safetensors; exit $r");
  expect(c, 0, "done  52 steps", "./t " DATA "--load ld --only w");
  expect(c, 0, "done  52 steps",
         "./loads " DATA
         "--load proj.safetensors --only proj --map 'layer.*.weight -> *.w transpose'");
  expect(c, 1, "'x.proj', which is to become 'proj.w', is missing",
         "./loads " DATA "--load proj.safetensors --only proj --map 'x.* -> *.w'");
  expect(c, 2, "--map needs 'FROM -> TO'", "./t " DATA "--load ld --map 'w = w'");
  expect(c, 2, "--map needs 'FROM -> TO' or", "./t " DATA "--load ld --map 'w -> w transpos'");
  expect(c, 2, "--only and --map go with --load FILE", "./t " DATA "--only w");
  expect(c, 0, "(37 rows)", "./t eval --load ld " EVAL);
}

static void test_selftest(Checks *c) {
  expect(c, 0, "1, 2, 3 threads: same bits|saved and loaded: same bits|passed", "./t selftest");
  expect(c, 0, "passed", "./loads selftest");
  expect(c, 2, "does not go with this command", "./t selftest --steps 3");
}

static void test_info(Checks *c) {
  expect(c, 0, "", "./t " DATA "--quiet --save info --seed 8");
  expect(c, 0, "w:m|F32[3]  crc32 |seed  8|  total_steps  52|  hyper:steps  52|attempt",
         "./t info info");
  expect(c, 0, "info/step-000052/model.safetensors", "./t info info/step-000052/");
  expect(c, 0, "layer.proj.weight  F32[3, 2]  no checksum", "./t info proj.safetensors");
  expect(c, 1, "damaged: the checksum of",
         "f=info/step-000052/model.safetensors;"
         "printf '\\001' | dd of=$f bs=1 seek=$(($(wc -c <$f) - 2)) conv=notrunc 2>/dev/null;"
         "./t info info");
  expect(c, 1, "no checkpoint in 'test'", "mkdir test; ./t info test");
  expect(c, 1, "not a safetensors file", "./t info x.idx");
}

static void test_infer(Checks *c) {
  expect(c, 0, "", "./t " DATA "--quiet --save inf");
#define INFER "./t infer predict --resume inf "
  expect(c, 0, "pred f32[203]\n", INFER "--input x=x.idx");
  expect(c, 0, "204", INFER "--input x=x.idx | wc -l");
  expect(c, 0, "f4', 'fortran_order': False, 'shape': (203, ), }",
         INFER "--input x=x.idx --output p.npy; tail -c +11 p.npy | head -1");
  expect(c, 0, "940\n", "wc -c <p.npy");
  expect(c, 0, "{\"__metadata__\"|\"pred\":{\"dtype\":\"F32\",\"shape\":[203]",
         INFER "--input x=x.idx --output pred=p.safetensors; tail -c +9 p.safetensors");
  expect(c, 2, "FILE.npy or FILE.safetensors", INFER "--input x=x.idx --output p.txt");
  expect(c, 2, "predict has no result 'p'", INFER "--input x=x.idx --output p=p.npy");
  expect(c, 2, "no value for 'x': --input x=FILE", INFER);
  expect(c, 2, "predict has no input 'y', did you mean 'x'?", INFER "--input y=x.idx");
  expect(c, 2, "'x' is given twice", INFER "--input x=x.idx --input x=x.idx");
  expect(c, 1, "expected f32[rows, 3], found f32[203, 4]", INFER "--input x=wide.idx");
  expect(c, 2, "'x' is not rows of ints", INFER "--text x=abc");
  expect(c, 2, "no infer function 'predikt', did you mean 'predict'?",
         "./t infer predikt --load inf");
  expect(c, 2, "infer needs the name of a function", "./t infer --load inf");
  expect(c, 2, "infer needs --resume DIR or --load FILE", "./t infer predict");
  expect(c, 0, "infer predict --resume DIR", "./t --help");
#define NEXT "./t infer next --resume inf " /* the token behind the last one; its draws count */
  expect(c, 0, "abcdfim", NEXT "--text tokens=abc --tokens 4 | tr -d '\\n'");
  expect(c, 0, "dfim|!a", NEXT "--text tokens=abc --tokens 4 --quiet");
  expect(c, 0, "xyzab.c\n", "printf xyzab. >text; " NEXT "--text tokens=@text --draw 52");
  expect(c, 1, "token 256 is not a byte", "printf '\\377' >text; " NEXT "--text tokens=@text");
  expect(c, 2, "one input is text", NEXT "--text tokens=a --text length=b");
  expect(c, 2, "no value for 'tokens': --input tokens=FILE", NEXT "--input length=3");
  expect(c, 2, "--input length: '3.5' is not a number of type i32", NEXT "--input length=3.5");
}

static void test_pictures(Checks *c) {
  expect(c, 0, "<svg|class=\"eval\"|</svg>|Fake: loss",
         "./t " DATA EVAL "--log pl --plot p.svg --quiet >/dev/null; cat p.svg");
  expect(c, 0, "tfevents", "./t " DATA "--tensorboard tb/a --quiet; ls tb/a");
  expect(c, 0, "</svg>",
         "./t --data x=x.idx --data y=nan.idx --log pl --plot p.svg 2>/dev/null;"
         "cat p.svg"); /* nothing to draw is no error */
  expect(c, 2, "--plot draws the log: give --log FILE", "./t " DATA "--plot p.svg");
  expect(c, 1, "cannot create 'none/p.svg.tmp", "./t " DATA "--log pl --plot none/p.svg");
  expect(c, 1, "cannot make the directory '/proc/none'", "./t " DATA "--tensorboard /proc/none");
}

/* However it is cut into pieces, the run ends with the same bytes. */
static void test_resume(Checks *c) {
  expect(c, 0, "done  300 steps", "./t " DATA "--steps 300 --seed 9 --save whole --set lr=0.05");
  expect(c, 0, "done  263 steps",
         "./t " DATA "--steps 37 --seed 9 --save cut --set lr=0.05 &&"
         "./t " DATA "--steps 300 --resume cut --save cut");
  expect(c, 0, "", "cmp whole/step-000300/model.safetensors cut/step-000300/model.safetensors");
  expect(c, 0, "",
         "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do"
         " if ls killed 2>/dev/null | grep -q '^step'; then a='--resume killed'; else "
         "  a='--seed 9 --set lr=0.05 --steps 300'; rm -rf killed; fi;"
         " timeout -s KILL 0.0$i ./t " DATA "$a --save killed --every 10; done;"
         " if ls killed | grep -q '^step'; then a='--resume killed'; else "
         "  a='--seed 9 --set lr=0.05 --steps 300'; rm -rf killed; fi;"
         " ./t " DATA "$a --save killed --every 10 || exit 1;"
         " cmp whole/step-000300/model.safetensors killed/step-000300/model.safetensors &&"
         " cmp whole/step-000300/state.safetensors killed/step-000300/state.safetensors");
  expect(c, 0, "3", "ls -a killed | grep -c step-");
  expect(c, 0, "the run is complete (300 steps)", "./t " DATA "--resume whole");
  expect(c, 0, "was of 300 steps and is now of 310|done  10 steps",
         "./t " DATA "--resume whole --steps 310");
  expect(c, 0, "--seed 3 does nothing", "./t " DATA "--resume whole --seed 3");
  expect(c, 0, "a new epoch begins",
         "./t --data x=ex.idx --data y=ey.idx --resume whole --steps 301");
  expect(c, 1, "'whole' holds a run saved at step 300", "./t " DATA "--save whole");
  expect(c, 1, "later than 37", "./t " DATA "--resume cut/step-000037 --save cut");
  expect(c, 1, "no checkpoint in '.'", "./t " DATA "--resume .");
}

static void test_signals(Checks *c) {
#define FOREVER "./t " DATA "--steps 100000000 --quiet "
  expect(c, 130, "", "timeout --preserve-status -s INT 0.5 " FOREVER "--save int");
  expect(c, 0, "step-", "ls int");
  expect(c, 143, "", "timeout --preserve-status -s TERM 0.5 " FOREVER "--save term");
  expect(c, 0, "step-", "ls term");
  expect(c, 130, "!eval", /* a long evaluation is left, too: ten million rows of zeros */
         "printf '\\0\\0\\15\\2\\0\\230\\226\\200\\0\\0\\0\\3' >bx.idx;"
         "printf '\\0\\0\\15\\1\\0\\230\\226\\200' >by.idx;"
         "truncate -s 120000012 bx.idx; truncate -s 40000008 by.idx;"
         "timeout --preserve-status -s INT 0.1 ./t " DATA
         "--quiet --steps 1 --threads 1 --eval-data x=bx.idx --eval-data y=by.idx; r=$?;"
         "rm bx.idx by.idx; exit $r");
  expect(c, 137, "SIGUSR1: no --save directory",
         FOREVER "& p=$!; sleep 0.5; kill -USR1 $p; sleep 0.3; kill -9 $p; wait $p");
  expect(c, 0, "step-",
         FOREVER "--save usr & p=$!; sleep 0.5; kill -USR1 $p; sleep 0.3; ls usr;"
                 " kill -9 $p; wait $p; exit 0");
}

static void test_full_disk(Checks *c) {
  expect(c, 1, "cannot make the directory '/proc/none'", "./t " DATA "--save /proc/none");
  expect(c, 1, "the log '/dev/full' is not complete", "./t " DATA "--log /dev/full");
  expect(c, 1, "", "./t " DATA ">/dev/full");
}

int main(int argc, char **argv) {
  Checks c = {0};
  char link[4200], program[4096];
  if (argc != 2 || !realpath(argv[1], program)) return fprintf(stderr, "test_cli PROGRAM\n"), 2;
  snprintf(link, sizeof link,
           "rm -rf test_cli.tmp; mkdir test_cli.tmp; for n in t split loads; do"
           " ln -s '%s' test_cli.tmp/$n; done",
           program);
  if (system(link) || chdir("test_cli.tmp")) return 2;
  write_all();
  test_usage(&c);
  test_data(&c);
  test_training(&c);
  test_split(&c);
  test_loads(&c);
  test_infer(&c);
  test_info(&c);
  test_selftest(&c);
  test_pictures(&c);
  test_resume(&c);
  test_signals(&c);
  test_full_disk(&c);
  return checks_end(&c, "cli");
}

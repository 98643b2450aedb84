/* standalone.c: the fuzz targets without libFuzzer: every file named, or in a folder named, once.
 * An input that takes more than a second is a failure, as it is for the fuzzer. */
#define _XOPEN_SOURCE 700
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long files, slow; /* nftw's callback has no user pointer */

static int run(const char *path, const struct stat *st, int kind, struct FTW *at) {
  (void)at;
  if (kind != FTW_F) return 0;
  FILE *f = fopen(path, "rb");
  size_t size = (size_t)st->st_size;
  uint8_t *data = malloc(size + !size); /* no NUL behind: a sanitizer sees every read too far */
  if (!f || !data || fread(data, 1, size, f) != size) return fprintf(stderr, "%s\n", path), -1;
  fclose(f);
  clock_t start = clock();
  LLVMFuzzerTestOneInput(data, size);
  if (clock() - start > CLOCKS_PER_SEC) fprintf(stderr, "%s: more than a second\n", path), slow++;
  free(data);
  files++;
  return 0;
}

int main(int argc, char **argv) {
  int failed = 0;
  for (int i = 1; i < argc; i++) failed |= nftw(argv[i], run, 16, FTW_PHYS) != 0;
  printf("%lu inputs, %lu of them slow\n", files, slow);
  return failed || slow || !files;
}

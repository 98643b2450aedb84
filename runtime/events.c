/* events.c: --tensorboard DIR: scalars as the event files that TensorBoard reads.
 *
 *   file    records: u64 length, u32 masked CRC-32C of it, bytes, u32 masked CRC-32C of those
 *   bytes   protobuf Event {1: double wall_time, 2: int64 step, 3: string file_version,
 *           5: Summary {1: Value {1: string tag, 2: float simple_value}, …}}
 *
 * All little-endian.  The first record says the version.  A run that is resumed writes a new file:
 * TensorBoard joins the files of a directory.
 */
#define _DEFAULT_SOURCE
#include "runtime/cli.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- framing ---- */

/* Castagnoli's polynomial, reflected; a record is short, so bit by bit will do. */
uint32_t cli_crc32c(const void *bytes, size_t n) {
  const uint8_t *p = bytes;
  uint32_t crc = 0xffffffffu;
  for (size_t i = 0; i < n; i++) {
    crc ^= p[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
  }
  return ~crc;
}

static uint32_t masked(const void *bytes, size_t n) {
  uint32_t crc = cli_crc32c(bytes, n);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void put_little(mp_text *t, uint64_t v, int bytes) {
  for (int i = 0; i < bytes; i++) {
    uint8_t byte = (uint8_t)(v >> 8 * i);
    mp_text_bytes(t, &byte, 1);
  }
}

static void write_record(FILE *f, const mp_text *data) {
  mp_text record = {0};
  put_little(&record, data->len, 8);
  if (!record.failed) put_little(&record, masked(record.at, 8), 4);
  mp_text_bytes(&record, data->at, data->len);
  put_little(&record, masked(data->at, data->len), 4);
  if (!record.failed && !data->failed) fwrite(record.at, 1, record.len, f);
  mp_text_free(&record);
}

/* ---- protobuf ---- */

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static void put_varint(mp_text *t, uint64_t v) {
  for (; v >= 0x80; v >>= 7) put_little(t, (v & 0x7f) | 0x80, 1);
  put_little(t, v, 1);
}

static void put_key(mp_text *t, int field, int wire) {
  put_varint(t, (uint64_t)(field << 3 | wire));
}

static void put_bytes(mp_text *t, int field, const void *bytes, size_t n) {
  put_key(t, field, BYTES);
  put_varint(t, n);
  mp_text_bytes(t, bytes, n);
}

static void put_time(mp_text *t) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  double seconds = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
  uint64_t bits;
  memcpy(&bits, &seconds, sizeof bits);
  put_key(t, 1, FIXED64);
  put_little(t, bits, 8);
}

static void put_scalar(mp_text *summary, const char *group, const char *name, double number) {
  mp_text tag = {0}, value = {0};
  float v = (float)number;
  uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  mp_text_add(&tag, "%s/%s", group, name);
  if (!tag.failed) put_bytes(&value, 1, tag.at, tag.len);
  put_key(&value, 2, FIXED32);
  put_little(&value, bits, 4);
  if (!value.failed) put_bytes(summary, 1, value.at, value.len);
  mp_text_free(&tag);
  mp_text_free(&value);
}

/* ---- the file ---- */

static void write_version(FILE *f) {
  static const char version[] = "brain.Event:2";
  mp_text event = {0};
  put_time(&event);
  put_bytes(&event, 3, version, strlen(version));
  write_record(f, &event);
  mp_text_free(&event);
}

int cli_open_events(CliEvents *e, const CliArgs *a) {
  mp_text path = {0};
  mp_error err;
  char host[64] = "host";
  *e = (CliEvents){.args = a};
  if (!a->tensorboard) return CLI_OK;
  if (mp_make_dirs(a->tensorboard, &err)) return cli_error(a, CLI_FAILED, "%s", err.text);
  gethostname(host, sizeof host - 1);
  mp_text_add(&path, "%s/events.out.tfevents.%010lld.%s.%ld.0", a->tensorboard,
              (long long)time(NULL), host, (long)getpid());
  e->file = path.failed ? NULL : fopen(path.at, "wb");
  int status = e->file ? CLI_OK
                       : cli_error(a, CLI_FAILED, "cannot write '%s': %s",
                                   path.failed ? "" : path.at, strerror(errno));
  if (e->file) write_version(e->file);
  mp_text_free(&path);
  return status;
}

static void put_watched(mp_text *summary, const CliRun *run) {
  for (uint32_t i = 0; i < run->watch.n; i++) {
    CliWatched seen;
    cli_read_watch(&run->watch, run, i, &seen);
    for (int k = 0; k < CLI_WATCHED; k++) {
      mp_text group = {0};
      mp_text_add(&group, "watch/%s", seen.name);
      if (isfinite(seen.value[k]) && !group.failed)
        put_scalar(summary, group.at, cli_watched[k], seen.value[k]);
      mp_text_free(&group);
    }
  }
}

/* What is not finite is left out: a skipped step has no loss. */
void cli_write_events(CliEvents *e, const char *group, int64_t step, const CliMeter *m) {
  CliReading r;
  mp_text event = {0}, summary = {0};
  if (!e->file) return;
  for (uint32_t i = 0; cli_meter_read(m, i, &r); i++)
    if (isfinite(r.value)) put_scalar(&summary, group, r.name, r.value);
  if (e->run) put_watched(&summary, e->run);
  put_time(&event);
  put_key(&event, 2, VARINT);
  put_varint(&event, (uint64_t)step);
  put_bytes(&event, 5, summary.at, summary.len);
  if (!summary.failed) write_record(e->file, &event);
  mp_text_free(&summary);
  mp_text_free(&event);
  double now = cli_seconds();
  if (now - e->flushed < 1) return;
  fflush(e->file);
  e->flushed = now;
}

int cli_close_events(CliEvents *e) {
  if (!e->file) return CLI_OK;
  bool failed = ferror(e->file) != 0;
  if (fclose(e->file) || failed)
    return cli_error(e->args, CLI_FAILED, "the events in '%s' are not complete",
                     e->args->tensorboard);
  e->file = NULL;
  return CLI_OK;
}

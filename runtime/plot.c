/* plot.c: --plot loss.svg: the log as a picture, drawn anew at every evaluation and at the end.
 *
 * The steps are gathered in a fixed number of columns, whatever their number: a line through the
 * means over a band from the least to the largest.  Evaluations are a second line with points.
 * Steps that the log holds twice, because a run was killed and resumed, count twice.
 */
#include "runtime/cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 760, HEIGHT = 440, LEFT = 68, RIGHT = 20, TOP = 44, BOTTOM = 46, COLUMNS = 300 };

typedef struct Column {
  double sum, least, most;
  int64_t n;
} Column;

typedef struct Point {
  double step, value;
} Point;

typedef struct Plot {
  const char *name; /* what is drawn: "loss" */
  double last, low, high;
  int64_t first;
  Column columns[COLUMNS];
  Point *evals;
  size_t n_evals, cap_evals;
  bool failed;
} Plot;

/* ---- reading the log ---- */

/* The number behind "key": in a line that this program wrote. */
static bool number_of(const char *line, const char *key, double *out) {
  mp_text quoted = {0};
  mp_json_quote(&quoted, key);
  mp_text_add(&quoted, ":");
  const char *at = quoted.failed ? NULL : strstr(line, quoted.at);
  char *end = NULL;
  if (at) *out = strtod(at + quoted.len, &end);
  bool found = at && end != at + quoted.len && isfinite(*out);
  mp_text_free(&quoted);
  return found;
}

static void add_eval(Plot *p, double step, double value) {
  if (p->n_evals == p->cap_evals) {
    size_t cap = p->cap_evals ? 2 * p->cap_evals : 64;
    Point *more = realloc(p->evals, cap * sizeof *more);
    if (!more) p->failed = true;
    if (!more) return;
    p->evals = more;
    p->cap_evals = cap;
  }
  p->evals[p->n_evals++] = (Point){step, value};
}

static void add_step(Plot *p, double step, double value) {
  int i = (int)((step - (double)p->first) / (p->last - (double)p->first + 1) * COLUMNS);
  if (i < 0 || i >= COLUMNS) return;
  Column *c = &p->columns[i];
  c->least = c->n ? fmin(c->least, value) : value;
  c->most = c->n ? fmax(c->most, value) : value;
  c->sum += value;
  c->n++;
}

typedef void Visit(Plot *p, double step, double value, bool eval);

static void find_range(Plot *p, double step, double value, bool eval) {
  (void)value, (void)eval;
  if (p->first < 0) p->first = (int64_t)step;
  p->last = fmax(p->last, step);
}

static void gather(Plot *p, double step, double value, bool eval) {
  if (eval) add_eval(p, step, value);
  else add_step(p, step, value);
}

static void for_each_line(Plot *p, FILE *f, Visit *visit) {
  char line[4096];
  double step, value;
  rewind(f);
  while (fgets(line, sizeof line, f))
    if (number_of(line, "step", &step) && number_of(line, p->name, &value))
      visit(p, step, value, strstr(line, "{\"eval\":true") == line);
}

/* The heights that the curves need. */
static void find_heights(Plot *p) {
  p->low = INFINITY, p->high = -INFINITY;
  for (int i = 0; i < COLUMNS; i++) {
    if (!p->columns[i].n) continue;
    p->low = fmin(p->low, p->columns[i].least);
    p->high = fmax(p->high, p->columns[i].most);
  }
  for (size_t i = 0; i < p->n_evals; i++) {
    p->low = fmin(p->low, p->evals[i].value);
    p->high = fmax(p->high, p->evals[i].value);
  }
  if (!(p->low <= p->high)) p->low = 0, p->high = 1;
  if (p->low == p->high) p->low -= 0.5, p->high += 0.5;
}

/* ---- the picture ---- */

static double x_of(const Plot *p, double step) {
  double span = p->last > (double)p->first ? p->last - (double)p->first : 1;
  return LEFT + (step - (double)p->first) / span * (WIDTH - LEFT - RIGHT);
}

static double y_of(const Plot *p, double value) {
  return HEIGHT - BOTTOM - (value - p->low) / (p->high - p->low) * (HEIGHT - TOP - BOTTOM);
}

static double step_of_column(const Plot *p, int i) {
  return (double)p->first + (i + 0.5) / COLUMNS * (p->last - (double)p->first + 1) - 0.5;
}

/* 1, 2 or 5 times a power of ten, so that about `n` of them fill the range. */
static double nice_step(double range, int n) {
  double raw = range / n, unit = pow(10, floor(log10(raw))), times = raw / unit;
  return unit * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
}

static void draw_axes(const Plot *p, mp_text *t) {
  double dy = nice_step(p->high - p->low, 6),
         dx = nice_step(fmax(p->last - (double)p->first, 1), 8);
  for (double v = ceil(p->low / dy) * dy; v <= p->high + dy * 1e-9; v += dy)
    mp_text_add(t,
                "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" class=\"grid\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n",
                LEFT, WIDTH - RIGHT, y_of(p, v), y_of(p, v), LEFT - 8, y_of(p, v) + 4,
                fabs(v) < dy * 1e-9 ? 0 : v);
  for (double s = ceil((double)p->first / dx) * dx; s <= p->last; s += dx)
    mp_text_add(t,
                "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" class=\"tick\"/>"
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.10g</text>\n",
                x_of(p, s), x_of(p, s), HEIGHT - BOTTOM, HEIGHT - BOTTOM + 5, x_of(p, s),
                HEIGHT - BOTTOM + 19, s);
  mp_text_add(t,
              "<line x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\" class=\"axis\"/>\n"
              "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>\n",
              LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2,
              HEIGHT - 8);
}

static void draw_band(const Plot *p, mp_text *t) {
  mp_text_add(t, "<path class=\"band\" d=\"");
  const char *how = "M";
  for (int i = 0; i < COLUMNS; i++)
    if (p->columns[i].n) {
      mp_text_add(t, "%s%.1f %.1f", how, x_of(p, step_of_column(p, i)),
                  y_of(p, p->columns[i].most));
      how = "L";
    }
  for (int i = COLUMNS; i-- > 0;)
    if (p->columns[i].n)
      mp_text_add(t, "L%.1f %.1f", x_of(p, step_of_column(p, i)), y_of(p, p->columns[i].least));
  mp_text_add(t, "\"/>\n");
}

static void draw_means(const Plot *p, mp_text *t) {
  mp_text_add(t, "<polyline class=\"train\" points=\"");
  for (int i = 0; i < COLUMNS; i++) {
    const Column *c = &p->columns[i];
    if (c->n)
      mp_text_add(t, "%.1f,%.1f ", x_of(p, step_of_column(p, i)), y_of(p, c->sum / (double)c->n));
  }
  mp_text_add(t, "\"/>\n");
}

static void draw_evals(const Plot *p, mp_text *t) {
  if (!p->n_evals) return;
  mp_text_add(t, "<polyline class=\"eval\" points=\"");
  for (size_t i = 0; i < p->n_evals; i++)
    mp_text_add(t, "%.1f,%.1f ", x_of(p, p->evals[i].step), y_of(p, p->evals[i].value));
  mp_text_add(t, "\"/>\n");
  for (size_t i = 0; i < p->n_evals; i++)
    mp_text_add(t, "<circle class=\"point\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n",
                x_of(p, p->evals[i].step), y_of(p, p->evals[i].value));
}

static void add_escaped(mp_text *t, const char *s) {
  for (; *s; s++)
    if (*s == '<') mp_text_add(t, "&lt;");
    else if (*s == '&') mp_text_add(t, "&amp;");
    else mp_text_add(t, "%c", *s);
}

static void draw_legend(const Plot *p, const char *model, mp_text *t) {
  mp_text_add(t, "<text x=\"%d\" y=\"24\" class=\"title\">", LEFT);
  add_escaped(t, model);
  mp_text_add(t, ": ");
  add_escaped(t, p->name);
  mp_text_add(t,
              "</text>\n<line x1=\"%d\" x2=\"%d\" y1=\"20\" y2=\"20\" class=\"train\"/>"
              "<text x=\"%d\" y=\"24\">train</text>\n",
              WIDTH - 180, WIDTH - 156, WIDTH - 150);
  if (p->n_evals)
    mp_text_add(t,
                "<line x1=\"%d\" x2=\"%d\" y1=\"20\" y2=\"20\" class=\"eval\"/>"
                "<circle class=\"point\" cx=\"%d\" cy=\"20\" r=\"3\"/>"
                "<text x=\"%d\" y=\"24\">eval</text>\n",
                WIDTH - 96, WIDTH - 72, WIDTH - 84, WIDTH - 66);
}

static const char style[] =
    "<style>text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600;font-size:14px;"
    "fill:#222}.grid{stroke:#e6e6e6}.axis,.tick{stroke:#888}.band{fill:#4c78a8;opacity:.18}"
    ".train{stroke:#4c78a8;stroke-width:1.6;fill:none;stroke-linejoin:round}"
    ".eval{stroke:#e4572e;stroke-width:1.6;fill:none}.point{fill:#e4572e}</style>";

static void draw(const Plot *p, const char *model, mp_text *t) {
  mp_text_add(
      t,
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
      "viewBox=\"0 0 %d %d\">\n%s\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
      WIDTH, HEIGHT, WIDTH, HEIGHT, style);
  draw_axes(p, t);
  draw_band(p, t);
  draw_means(p, t);
  draw_evals(p, t);
  draw_legend(p, model, t);
  mp_text_add(t, "</svg>\n");
}

static int fill_text(void *user, mp_write_fn write, void *sink, mp_error *err) {
  const mp_text *t = user;
  (void)err;
  return write(sink, t->at, t->len) ? MP_E_IO : MP_OK;
}

int cli_plot(const CliArgs *a, const char *model, const char *name) {
  Plot *p = calloc(1, sizeof *p);
  FILE *f = fopen(a->log, "r");
  mp_text t = {0};
  int status = CLI_OK;
  if (!f) status = cli_error(a, CLI_FAILED, "cannot read '%s': %s", a->log, strerror(errno));
  if (!p) status = cli_error(a, CLI_FAILED, "no memory");
  if (!status) {
    p->name = name;
    p->first = -1;
    for_each_line(p, f, find_range);
    for_each_line(p, f, gather);
    find_heights(p);
    draw(p, model, &t);
    status = t.failed || p->failed ? cli_error(a, CLI_FAILED, "no memory")
                                   : cli_write_file(a, a->plot, fill_text, &t);
  }
  mp_text_free(&t);
  if (f) fclose(f);
  if (p) free(p->evals);
  free(p);
  return status;
}

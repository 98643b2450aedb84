/* plot.c: --plot loss.svg: the log as a picture, drawn anew at every evaluation and at the end.
 *
 * The steps are gathered in a fixed number of columns, whatever their number: a line through the
 * means over a band from the least to the largest.  Evaluations are a second line with points.
 * Steps that the log holds twice, because a run was killed and resumed, count twice.  --beside LOG
 * draws the log of another run into the same picture, each under the name of its file.
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

typedef struct Curve { /* of one log */
  const char *log;
  Column columns[COLUMNS];
  Point *evals;
  size_t n_evals, cap_evals;
} Curve;

enum { CURVES = 2 };

typedef struct Plot {
  const char *name; /* what is drawn: "loss" */
  double last, low, high;
  int64_t first;
  Curve curves[CURVES], *at; /* at: the one being read or drawn */
  int n;
  bool failed;
} Plot;

/* Of its style, behind the first. */
static const char *other(const Plot *p) { return p->at == p->curves ? "" : " other"; }

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
  Curve *c = p->at;
  if (c->n_evals == c->cap_evals) {
    size_t cap = c->cap_evals ? 2 * c->cap_evals : 64;
    Point *more = realloc(c->evals, cap * sizeof *more);
    if (!more) p->failed = true;
    if (!more) return;
    c->evals = more;
    c->cap_evals = cap;
  }
  c->evals[c->n_evals++] = (Point){step, value};
}

static void add_step(Plot *p, double step, double value) {
  int i = (int)((step - (double)p->first) / (p->last - (double)p->first + 1) * COLUMNS);
  if (i < 0 || i >= COLUMNS) return;
  Column *c = &p->at->columns[i];
  c->least = c->n ? fmin(c->least, value) : value;
  c->most = c->n ? fmax(c->most, value) : value;
  c->sum += value;
  c->n++;
}

typedef void Visit(Plot *p, double step, double value, bool eval);

static void find_range(Plot *p, double step, double value, bool eval) {
  (void)value, (void)eval;
  if (p->first < 0 || step < (double)p->first) p->first = (int64_t)step;
  p->last = fmax(p->last, step);
}

static void gather(Plot *p, double step, double value, bool eval) {
  if (eval) add_eval(p, step, value);
  else add_step(p, step, value);
}

static void for_each_line(Plot *p, FILE *f, Visit *visit) {
  char line[4096];
  double step, value;
  while (fgets(line, sizeof line, f))
    if (number_of(line, "step", &step) && number_of(line, p->name, &value))
      visit(p, step, value, strstr(line, "{\"eval\":true") == line);
}

static int read_logs(Plot *p, const CliArgs *a, Visit *visit) {
  for (p->at = p->curves; p->at < p->curves + p->n; p->at++) {
    FILE *f = fopen(p->at->log, "r");
    if (!f) return cli_error(a, CLI_FAILED, "cannot read '%s': %s", p->at->log, strerror(errno));
    for_each_line(p, f, visit);
    fclose(f);
  }
  return CLI_OK;
}

static void widen(Plot *p, double least, double most) {
  p->low = fmin(p->low, least);
  p->high = fmax(p->high, most);
}

/* The heights that the curves need. */
static void find_heights(Plot *p) {
  p->low = INFINITY, p->high = -INFINITY;
  for (p->at = p->curves; p->at < p->curves + p->n; p->at++) {
    for (int i = 0; i < COLUMNS; i++)
      if (p->at->columns[i].n) widen(p, p->at->columns[i].least, p->at->columns[i].most);
    for (size_t i = 0; i < p->at->n_evals; i++)
      widen(p, p->at->evals[i].value, p->at->evals[i].value);
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
  const Column *c = p->at->columns;
  mp_text_add(t, "<path class=\"band%s\" d=\"", other(p));
  const char *how = "M";
  for (int i = 0; i < COLUMNS; i++)
    if (c[i].n) {
      mp_text_add(t, "%s%.1f %.1f", how, x_of(p, step_of_column(p, i)), y_of(p, c[i].most));
      how = "L";
    }
  for (int i = COLUMNS; i-- > 0;)
    if (c[i].n) mp_text_add(t, "L%.1f %.1f", x_of(p, step_of_column(p, i)), y_of(p, c[i].least));
  mp_text_add(t, "\"/>\n");
}

static void draw_means(const Plot *p, mp_text *t) {
  mp_text_add(t, "<polyline class=\"train%s\" points=\"", other(p));
  for (int i = 0; i < COLUMNS; i++) {
    const Column *c = &p->at->columns[i];
    if (c->n)
      mp_text_add(t, "%.1f,%.1f ", x_of(p, step_of_column(p, i)), y_of(p, c->sum / (double)c->n));
  }
  mp_text_add(t, "\"/>\n");
}

static void draw_evals(const Plot *p, mp_text *t) {
  const Curve *c = p->at;
  if (!c->n_evals) return;
  mp_text_add(t, "<polyline class=\"eval%s\" points=\"", other(p));
  for (size_t i = 0; i < c->n_evals; i++)
    mp_text_add(t, "%.1f,%.1f ", x_of(p, c->evals[i].step), y_of(p, c->evals[i].value));
  mp_text_add(t, "\"/>\n");
  for (size_t i = 0; i < c->n_evals; i++)
    mp_text_add(t, "<circle class=\"point%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n", other(p),
                x_of(p, c->evals[i].step), y_of(p, c->evals[i].value));
}

static void add_escaped(mp_text *t, const char *s, size_t n) {
  for (; n--; s++)
    if (*s == '<') mp_text_add(t, "&lt;");
    else if (*s == '&') mp_text_add(t, "&amp;");
    else mp_text_add(t, "%c", *s);
}

/* The name of the log without folders and suffix. */
static void add_label(mp_text *t, const Curve *c, const char *what) {
  const char *name = mp_path_base(c->log), *dot = strrchr(name, '.');
  add_escaped(t, name, dot && dot > name ? (size_t)(dot - name) : strlen(name));
  mp_text_add(t, "%s", what);
}

/* A line of the legend; alone, a curve needs no name. */
static void draw_key(const Plot *p, int row, const char *kind, mp_text *t) {
  int y = 20 + 16 * row;
  mp_text_add(t,
              "<line x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\" class=\"%s%s\"/>"
              "<text x=\"%d\" y=\"%d\">",
              WIDTH - 170, WIDTH - 146, y, y, kind, other(p), WIDTH - 140, y + 4);
  if (p->n == 1) mp_text_add(t, "%s", kind);
  else add_label(t, p->at, kind[0] == 'e' ? ", eval" : "");
  mp_text_add(t, "</text>\n");
}

static void draw_title(const Plot *p, const char *model, mp_text *t) {
  mp_text_add(t, "<text x=\"%d\" y=\"24\" class=\"title\">", LEFT);
  add_escaped(t, model, strlen(model));
  mp_text_add(t, ": ");
  add_escaped(t, p->name, strlen(p->name));
  mp_text_add(t, "</text>\n");
}

static const char style[] =
    "<style>text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600;font-size:14px;"
    "fill:#222}.grid{stroke:#e6e6e6}.axis,.tick{stroke:#888}.band{opacity:.18}"
    ".train,.eval{stroke-width:1.6;fill:none;stroke-linejoin:round}.eval{stroke-dasharray:5 3}"
    ".band{fill:#4c78a8}.train{stroke:#4c78a8}.eval{stroke:#e4572e}.point{fill:#e4572e}"
    ".band.other{fill:#59a14f}.train.other{stroke:#59a14f}.eval.other{stroke:#b07aa1}"
    ".point.other{fill:#b07aa1}"
    "</style>";

static void draw(Plot *p, const char *model, mp_text *t) {
  int rows = 0;
  mp_text_add(
      t,
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
      "viewBox=\"0 0 %d %d\">\n%s\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
      WIDTH, HEIGHT, WIDTH, HEIGHT, style);
  draw_axes(p, t);
  for (p->at = p->curves; p->at < p->curves + p->n; p->at++) {
    draw_band(p, t);
    draw_means(p, t);
    draw_evals(p, t);
    draw_key(p, rows++, "train", t);
    if (p->at->n_evals) draw_key(p, rows++, "eval", t);
  }
  draw_title(p, model, t);
  mp_text_add(t, "</svg>\n");
}

static int fill_text(void *user, mp_write_fn write, void *sink, mp_error *err) {
  const mp_text *t = user;
  (void)err;
  return write(sink, t->at, t->len) ? MP_E_IO : MP_OK;
}

int cli_plot(const CliArgs *a, const char *model, const char *name) {
  Plot *p = calloc(1, sizeof *p);
  mp_text t = {0};
  if (!p) return cli_error(a, CLI_FAILED, "no memory");
  p->name = name;
  p->first = -1;
  p->n = 1 + (a->beside != NULL);
  p->curves[0].log = a->log;
  p->curves[1].log = a->beside;
  int status = read_logs(p, a, find_range);
  if (!status) status = read_logs(p, a, gather);
  if (!status) {
    find_heights(p);
    draw(p, model, &t);
    status = t.failed || p->failed ? cli_error(a, CLI_FAILED, "no memory")
                                   : cli_write_file(a, a->plot, fill_text, &t);
  }
  mp_text_free(&t);
  for (int i = 0; i < CURVES; i++) free(p->curves[i].evals);
  free(p);
  return status;
}

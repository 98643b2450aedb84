/* fake_train.c: the fake model as an executable, for the tests of the command line. */
#include "tests/unit/fake_model.h"

int main(int argc, char **argv) { return mp_cli(&fake_model, argc, argv); }

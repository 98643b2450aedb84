"""TABLE: the cases of every op of ops.def, from the files that hold them."""
import fp8_cases
import op_table
import parts_cases

TABLE = {**op_table.TABLE, **parts_cases.TABLE, **fp8_cases.TABLE}

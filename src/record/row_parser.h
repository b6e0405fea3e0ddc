/*
 * row_parser.h
 *	  One row of a grid, from contiguous bytes to a record.
 *
 * Two steps: parse finds the cells of the mapped fields, where they lie; it
 * has no effect outside the parser, so it may be tried on a row of which the
 * end has not arrived.  commit (row_record.c) then decodes them into the batch.
 */
#ifndef PFA_ROW_PARSER_H
#define PFA_ROW_PARSER_H

#include "record/grid_layout.h"

typedef enum PfaRowStatus
{
	PFA_ROW_COMPLETE,
	PFA_ROW_SHORT,     /* the bytes end within the row */
	PFA_ROW_MALFORMED, /* see error and error_at */
	PFA_ROW_NEEDS_LAYOUT,
	PFA_ROW_OUT_OF_MEMORY
} PfaRowStatus;

typedef enum PfaCellKind
{
	PFA_CELL_NULL, /* null, or the member was missing */
	PFA_CELL_STRING,
	PFA_CELL_ESCAPED, /* a string with escapes */
	PFA_CELL_SCALAR,  /* number, true, false */
	PFA_CELL_NESTED   /* an object or an array */
} PfaCellKind;

/* The value of a mapped field in the row parsed last, still as it came. */
typedef struct PfaCell
{
	uint64_t row; /* set by which row: any other means unset */
	const char *text;
	size_t len;
	PfaCellKind kind;
} PfaCell;

#define PFA_ROW_PREFIX_SIZE 64

/*
 * The bytes a cell began with, up to its value, in the last row that was read
 * the slow way, and the field they meant.  Rows of a grid repeat them byte by
 * byte, so one comparison replaces reading names and looking them up.
 */
typedef struct PfaRowPrefix
{
	uint8_t len; /* 0: not known */
	bool positional;
	int field; /* -1: not mapped */
	char text[PFA_ROW_PREFIX_SIZE];
} PfaRowPrefix;

#define PFA_ROW_MAX_ID 255

/* Aliases of named cells that are kept. */
#define PFA_ROW_MAX_ALIASES 512

typedef struct PfaRowParser
{
	const PfaMapping *mapping;
	const PfaGridLayout *layout;
	const PfaGridLimits *limits;
	PfaBatch *batch;
	char *organization; /* NULL: any */

	uint64_t generation;  /* of the layout, that field_of reflects */
	int max_num;          /* of the layout */
	bool id_known;        /* the layout has the id's alias */
	bool layout_is_fresh; /* it came with this very answer, or was
									 * asked for just before it */
	bool used_layout;     /* a positional row was decoded by it */
	int *field_of;        /* aliasnum -> field, -1: none */

	uint64_t row;     /* number of the row being parsed */
	PfaCell *cells;   /* one a field */
	bool positional;  /* the row has a positional cell */
	bool num_unknown; /* and one past the layout */
	PfaRowPrefix *prefixes;
	int nprefixes;
	PfaGridLayout *aliases; /* of named cells, in the order they came */
	int ncells;
	int last_ncells; /* of the row before */
	bool uneven;     /* rows differ in the number of their cells */
	char *stack;     /* for nested values to skip */
	int stack_size;
	char *scratch; /* strings without their escapes */
	size_t scratch_size;

	char kept[2][1024]; /* id and organization of an oversized row */

	const char *error;
	const char *error_at;

	int64_t nrows;
	int64_t nforeign;
	int64_t mark;           /* rows that are counted apart, from the first */
	int64_t marked_records; /* what came of them */
	int64_t marked_rejects;
	bool ascending;
	bool has_id;
	bool last_id_is_ours; /* one of our records has last_id */
	char first_id[PFA_ROW_MAX_ID + 1];
	char last_id[PFA_ROW_MAX_ID + 1];
	size_t last_id_len;
} PfaRowParser;

extern bool
pfa_row_parser_init(PfaRowParser *row, const PfaMapping *mapping,
					const char *organization, const PfaGridLayout *layout,
					const PfaGridLimits *limits, PfaBatch *batch);
extern void pfa_row_parser_free(PfaRowParser *row);

/*
 * Parse the row that begins with the '{' at start, nested in depth
 * containers.  *next is left behind it when it is complete.
 */
extern PfaRowStatus
pfa_row_parse(PfaRowParser *row, const char *start, const char *end, int depth,
			  const char **next);
/* Take the row parsed last into the batch. */
extern PfaRowStatus pfa_row_commit(PfaRowParser *row);
/*
 * A row too large to keep is read by the caller, who tells its cells; then it
 * is rejected, with its id if it had one.  A row of another organization is
 * only counted.
 */
extern PfaRowStatus pfa_row_begin_oversized(PfaRowParser *row);
extern void pfa_row_oversized_cell(PfaRowParser *row, const PfaCell *alias,
								   const PfaCell *num, const PfaCell *value);
extern PfaRowStatus pfa_row_reject_oversized(PfaRowParser *row);

#endif /* PFA_ROW_PARSER_H */

/*
 * grid_parser.h
 *	  A griddata answer, from bytes as they arrive to records.
 *
 * The parser takes any split of the input, holds at most one row of it, and
 * accepts every variation of pems-protocol.md.  It runs in libcurl's write
 * callback: plain C, no server calls.
 */
#ifndef PFA_GRID_PARSER_H
#define PFA_GRID_PARSER_H

#include "record/record.h"

typedef struct PfaGridLimits
{
	size_t max_record_bytes; /* a longer row is rejected (and skipped
									 * without being stored) */
	size_t max_page_bytes;   /* a longer answer is an error */
	int max_depth;           /* of nesting */
	int max_fields;          /* cells of a row, entries of the field list */
} PfaGridLimits;

/*
 * Which alias the cells of a positional row belong to: aliasnum -> name.  Kept
 * from answer to answer ("kept until it stops fitting"); each parser has its
 * own copy, for answers that are read at the same time may differ.
 */
typedef struct PfaGridLayout PfaGridLayout;

extern PfaGridLayout *pfa_grid_layout_create(void);
extern void pfa_grid_layout_free(PfaGridLayout *layout);
extern int pfa_grid_layout_size(const PfaGridLayout *layout); /* 0: unknown */
extern void pfa_grid_layout_copy(PfaGridLayout *dst, const PfaGridLayout *src);
/* Do both lists give the same names to the same numbers? */
extern bool
pfa_grid_layout_equal(const PfaGridLayout *a, const PfaGridLayout *b);
/* Append the names of src that dst lacks. */
extern void pfa_grid_layout_merge(PfaGridLayout *dst, const PfaGridLayout *src);
/* name of the i-th field (0-based, in order of arrival), NUL-terminated */
extern const char *pfa_grid_layout_name(const PfaGridLayout *layout, int i);

typedef enum PfaGridStatus
{
	PFA_GRID_MORE,         /* give me more bytes */
	PFA_GRID_DONE,         /* a complete, well-formed answer */
	PFA_GRID_ALERT,        /* an ErrorAlert; see error */
	PFA_GRID_NEEDS_LAYOUT, /* positional rows without a field list, or
								 * one that does not fit the known layout */
	PFA_GRID_MALFORMED,    /* not JSON, not a grid, or over a limit */
	PFA_GRID_OUT_OF_MEMORY
} PfaGridStatus;

typedef struct PfaGridResult
{
	PfaGridStatus status;
	int64_t nrows;          /* rows in the answer, of any organization */
	int64_t nforeign;       /* of them, of another organization */
	int64_t total;          /* -1: not told */
	int64_t cursor;         /* CURRENTCURSORPOSITION, -1: not told */
	int more;               /* 1 '+', 0 '-', -1: not told */
	bool has_grid;          /* a GRID object was there */
	bool ascending;         /* ids of all rows ascend in byte order; only
								 * those of different organizations are equal */
	bool has_fields;        /* a field list was there */
	bool uneven;            /* rows have different numbers of cells */
	bool last_id_is_ours;   /* not only other organizations' */
	int64_t marked_records; /* records and rejects of the marked rows */
	int64_t marked_rejects;
	char error[512]; /* what was wrong, or the alert's text */
} PfaGridResult;

typedef struct PfaGridParser PfaGridParser;

/*
 * organization: rows whose organization field differs are counted and left
 * out.  Records and rejects go to batch, which the caller may reset between
 * two calls of feed (the first and last id are kept by the parser itself).
 * Used, not owned: mapping, layout (updated by a field list), batch.
 */
extern PfaGridParser *
pfa_grid_parser_create(const PfaMapping *mapping, const char *organization,
					   PfaGridLayout *layout, const PfaGridLimits *limits,
					   PfaBatch *batch);
extern void pfa_grid_parser_free(PfaGridParser *parser);
/* Count apart what comes of the first nrows rows, of any organization. */
extern void pfa_grid_parser_mark(PfaGridParser *parser, int64_t nrows);
/* The layout has just been asked for: do not ask again if rows look odd. */
extern void pfa_grid_parser_trust_layout(PfaGridParser *parser);
extern PfaGridStatus
pfa_grid_parser_feed(PfaGridParser *parser, const char *data, size_t len);
/* The body has ended: DONE, or what is wrong with a body that ends here. */
extern PfaGridStatus pfa_grid_parser_finish(PfaGridParser *parser);
extern const PfaGridResult *pfa_grid_parser_result(const PfaGridParser *parser);
/* Aliases of named cells that came, each once. */
extern const PfaGridLayout *
pfa_grid_parser_aliases(const PfaGridParser *parser);
/* First and last pfs_id among all rows (foreign ones too); NULL if none. */
extern const char *pfa_grid_parser_first_id(const PfaGridParser *parser);
extern const char *pfa_grid_parser_last_id(const PfaGridParser *parser);

#endif /* PFA_GRID_PARSER_H */

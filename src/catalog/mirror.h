/*
 * mirror.h
 *	  Rows of pfa_mirror: reading them in the order of ids, writing them.
 *
 * Everything that knows the table's columns is here and in mirror_derive.c.
 * All of it works in the caller's transaction; an error leaves it to be
 * aborted, which also releases what a PfaMirror holds.
 */
#ifndef PFA_MIRROR_H
#define PFA_MIRROR_H

#include "postgres.h"
#include "access/genam.h"
#include "executor/executor.h"
#include "storage/buf.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "record/record.h"

/* Attribute numbers, in the order of 10_tables.sql. */
typedef enum PfaMirrorAttribute
{
	PFA_MIRROR_ORGANIZATION_ID = 1,
	PFA_MIRROR_PFA_ID,
	PFA_MIRROR_DATA,
	PFA_MIRROR_CONTENT_HASH,
	PFA_MIRROR_VERSION,
	PFA_MIRROR_SYNCED_AT,
	PFA_MIRROR_CATEGORY,
	PFA_MIRROR_CLASS,
	PFA_MIRROR_SOURCE,
	PFA_MIRROR_DOR,
	PFA_MIRROR_AREA_SILO,
	PFA_MIRROR_MANUFACTURER,
	PFA_MIRROR_MODEL,
	PFA_MIRROR_PEMS_VERSION,
	PFA_MIRROR_MONTHLY_RATE,
	PFA_MIRROR_PURCHASE_PRICE,
	PFA_MIRROR_PLAN_COST,
	PFA_MIRROR_FORECAST_COST,
	PFA_MIRROR_ACTUAL_COST,
	PFA_MIRROR_ORIGINAL_START,
	PFA_MIRROR_ORIGINAL_END,
	PFA_MIRROR_FORECAST_START,
	PFA_MIRROR_FORECAST_END,
	PFA_MIRROR_ACTUAL_START,
	PFA_MIRROR_ACTUAL_END,
	PFA_MIRROR_IS_ACTUALIZED,
	PFA_MIRROR_IS_DISCONTINUED,
	PFA_MIRROR_IS_FUNDS_TRANSFERABLE,
	PFA_MIRROR_NATTS = PFA_MIRROR_IS_FUNDS_TRANSFERABLE
} PfaMirrorAttribute;

#define PFA_MIRROR_FIRST_DERIVED PFA_MIRROR_CATEGORY

/* Columns of the primary key's index: the two of the key, and content_hash. */
#define PFA_MIRROR_KEY_NATTS 3

/* A column that repeats a key of data. */
typedef struct PfaMirrorColumn
{
	const char *key;
	PfaMirrorAttribute attno;
	PfaKind kind;
} PfaMirrorColumn;

/* Longest id, and longest text of an indexed column, in bytes. */
#define PFA_MIRROR_MAX_KEY 1000

/* ---- mirror_derive.c: data to columns ---- */

/* NULL where no column repeats the key. */
extern const PfaMirrorColumn *pfa_mirror_column(const char *key, size_t len);

/*
 * Columns are numbered from 0 here.  What a change touches is a mask: a bit for
 * each column whose merged value it can change, PFA_TOUCHED_ANY in each, and in
 * the lowest bits one or two of PFA_TOUCHED_TEXTS for each text that it gives a
 * column.  So the mask alone tells of most changes that they cannot meet a
 * condition on a text.  Masks are stored, in the generated column
 * pfa_modification.touched.  The first columns, which most filters are about,
 * have the highest bits, so that changes that touch them come together at the
 * end of an index on it.
 */
extern const PfaMirrorColumn *pfa_mirror_columns(int *ncolumns);
extern int pfa_mirror_column_number(const PfaMirrorColumn *column);

#define PFA_TOUCHED_TEXTS          UINT64CONST(0xffffffff)
#define PFA_TOUCHED_COLUMN(number) (UINT64CONST(1) << (61 - (number)))
#define PFA_TOUCHED_ANY            (UINT64CONST(1) << 62)

/* The bits of a text in a column. */
extern uint64 pfa_mirror_text_bits(const PfaMirrorColumn *column, Datum text);

/* The three costs, in the order of PfaPeriod. */
extern const PfaMirrorColumn *pfa_mirror_cost_column(int period);

/*
 * What a delta touches: the columns of its keys, and costs that a key feeds.
 */
extern uint64 pfa_mirror_touched(const JsonbContainer *delta);

/*
 * A column's value from a member of data, NULL for none; no value where it does
 * not fit.  What it points to is the member's or palloc'd.
 */
extern Datum pfa_mirror_derive_column(const PfaMirrorColumn *column,
									  const JsonbValue *value, bool *isnull);

/* Blank derived columns: null, and false for the flags. */
extern void pfa_mirror_blank(Datum *values, bool *nulls);

/*
 * Fill the derived columns from data.  A value that its column cannot hold is
 * an error if strict, and else no value.
 */
extern void
pfa_mirror_derive_columns(Jsonb *data, bool strict, Datum *values, bool *nulls);

/* Text of the form YYYY-MM-DD, and nothing else, to days since 2000-01-01. */
extern bool pfa_mirror_parse_date(const char *text, size_t len, int32 *days);

/* ---- mirror.c ---- */

typedef struct PfaMirror
{
	MemoryContext context; /* that it was opened in */
	Relation rel;
	Oid pk; /* index on (organization_id, pfa_id) */
	const char *organization_id;
	Datum organization; /* the same as text */
	Snapshot snapshot;
	TupleDesc own_columns; /* without those that a user has added */
	/* what the table allows to be written past the executor */
	bool direct_insert;
	bool direct_update;
	bool direct_delete;
	/* writing, set up when first needed */
	EState *estate;
	ResultRelInfo *info;
	CommandId cid;
	/* what is written past triggers, for pfa_kpi_delta; NULL: nothing yet */
	struct PfaKpiSet *kpi;
	struct TupleTableSlot *stored; /* a row that is changed or deleted */
	/* put back by pfa_mirror_close */
	Oid user;
	int security;
	int guc_level;
} PfaMirror;

/*
 * From open to close the table's owner is the current user, in a
 * security-restricted operation, and a fresh snapshot is active.
 */
extern void pfa_mirror_open(PfaMirror *mirror, const char *organization_id);
extern void pfa_mirror_close(PfaMirror *mirror);

/* A stored row, as far as a comparison needs it. */
typedef struct PfaMirrorRow
{
	const char *id; /* valid until the next row */
	int id_len;
	int64 content_hash;
	/* set by pfa_mirror_scan_fetch */
	int64 version;
	ItemPointerData tid;
} PfaMirrorRow;

typedef struct PfaMirrorScan
{
	PfaMirror *mirror;
	Relation index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	ScanKeyData keys[3];
	int nkeys;
	bool index_only; /* rows are read from the index where they can be */
	bool fetched;    /* the row is in slot */
	Buffer vmbuffer;
	bool ended;
	PfaMirrorRow row;
} PfaMirrorScan;

/*
 * Rows of the organization in byte order of their ids, from lower to upper,
 * both inclusive; NULL is no bound.  The scan is on the first row, if any.
 */
extern void
pfa_mirror_scan_begin(PfaMirrorScan *scan, PfaMirror *mirror, const char *lower,
					  int lower_len, const char *upper, int upper_len);
extern void pfa_mirror_scan_next(PfaMirrorScan *scan);
/* Go on with the first row from id on, which is not behind the scan. */
extern void
pfa_mirror_scan_seek(PfaMirrorScan *scan, const char *id, int id_len);
/* Read the row that the scan is on, to change or delete it. */
extern void pfa_mirror_scan_fetch(PfaMirrorScan *scan);
extern void pfa_mirror_scan_end(PfaMirrorScan *scan);

/*
 * Rows are collected in slots and inserted together.  The values must stay
 * where they are until pfa_mirror_insert_flush.
 */
#define PFA_MIRROR_INSERT_ROWS 1000

/* Buffers of inserts that follow one another; belongs to their caller. */
typedef struct PfaMirrorBulk
{
	MemoryContext context;
	struct BulkInsertStateData *state;
	bool in_use;
} PfaMirrorBulk;

extern void pfa_mirror_bulk_init(PfaMirrorBulk *bulk, MemoryContext parent);

typedef struct PfaMirrorInsert
{
	PfaMirror *mirror;
	TupleTableSlot *slots[PFA_MIRROR_INSERT_ROWS];
	int nslots; /* made */
	int nused;  /* filled */
	PfaMirrorBulk *bulk;
} PfaMirrorInsert;

extern PfaMirrorInsert *
pfa_mirror_insert_begin(PfaMirror *mirror, PfaMirrorBulk *bulk);
extern TupleTableSlot *pfa_mirror_insert_slot(PfaMirrorInsert *insert);
extern void pfa_mirror_insert_flush(PfaMirrorInsert *insert);
extern void pfa_mirror_insert_end(PfaMirrorInsert *insert);

/*
 * Only where direct_update or direct_delete says so.
 *
 * Replace or delete the row at tid, as the mirror's snapshot sees it.  If it
 * was changed since, ERRCODE_T_R_SERIALIZATION_FAILURE: the transaction is to
 * be repeated.
 */
extern void pfa_mirror_update(PfaMirror *mirror, ItemPointer tid,
							  const Datum *values, const bool *nulls);
extern void pfa_mirror_delete(PfaMirror *mirror, ItemPointer tid);

/* ---- mirror_sql.c: the same by SQL statements, for tables with triggers ---- */

typedef struct Tuplestorestate Tuplestorestate;

/* Rows of PFA_MIRROR_NATTS columns in the order of the attributes. */
extern void pfa_mirror_sql_insert(PfaMirror *mirror, Tuplestorestate *rows);
extern void pfa_mirror_sql_update(PfaMirror *mirror, Tuplestorestate *rows);
extern int64
pfa_mirror_sql_delete(PfaMirror *mirror, const char **ids, int nids);

#endif /* PFA_MIRROR_H */

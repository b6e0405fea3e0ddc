/*
 * read.h
 *	  Rows of our tables read by B-tree, past the executor.
 *
 * Nothing here checks privileges or policies: whoever reads this way has
 * asked first what the caller may see (user_organization.h).
 */
#ifndef PFA_READ_H
#define PFA_READ_H

#include "postgres.h"
#include "access/genam.h"
#include "access/itup.h"
#include "executor/tuptable.h"
#include "storage/bufpage.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "catalog/relations.h"

/*
 * A read of a table through one of its B-trees, for an MVCC snapshot, forward.
 * What is open when an error is raised goes with the transaction.
 */
typedef struct PfaRead
{
	Relation rel;
	Relation index;
	Snapshot snapshot;
	TupleTableSlot *slot; /* the row, after pfa_read_next or pfa_read_fetch */
	struct IndexFetchTableData *fetch;
	struct BTScanInsertData *key;
	int nvarlena;   /* leading columns of varying length */
	int ntexts;     /* leading columns that are texts in byte order */
	int nkeytexts;  /* those of them that the key has, and not as null */
	int nsought;    /* columns of the key that was sought */
	bool after;     /* what is behind it, and not with it */
	int nequal;     /* columns of the key that an entry must equal */
	bool skip_dead; /* entries that are marked as dead to all */
	int64 nentries; /* for pg_stat_all_indexes */

	/* the leaf page that the read is on */
	Buffer buffer; /* pinned as long as its entries are in use */
	Page page;     /* a copy */
	OffsetNumber first;
	OffsetNumber last;
	OffsetNumber next; /* entry to read next */
	OffsetNumber end;  /* behind the last one that matches */

	/* the page above it, which the last descent went through */
	BlockNumber parent; /* InvalidBlockNumber: none that is of use */
	Page inner;         /* room for a copy, made when it is first needed */
	bool inner_read;    /* the copy is of parent */

	/* the entry that the read is on */
	IndexTuple entry;
	ItemPointer tids; /* versions of a row that share the entry */
	int ntids;

	/* of the table's visibility map */
	Buffer vmbuffer;
	BlockNumber block; /* all_visible is of this block of the table */
	bool all_visible;
} PfaRead;

extern void pfa_read_open(PfaRead *read, PfaRelation table, PfaRelation index,
						  Snapshot snapshot);
/* The same by OIDs; the index must be a B-tree. */
extern void
pfa_read_open_index(PfaRead *read, Oid table, Oid index, Snapshot snapshot);
extern void pfa_read_close(PfaRead *read);

/*
 * Go to the first entry whose columns, from the first one on, equal the values;
 * the read ends behind the last such entry.  A null equals a null.  What the
 * values point to stays the caller's, and where it is until the next seek.
 */
extern void
pfa_read_seek(PfaRead *read, const NullableDatum *values, int nvalues);
/* The same, but the last value is where to begin: with it, or right after. */
extern void pfa_read_seek_from(PfaRead *read, const NullableDatum *values,
							   int nvalues, bool after);

/* The next row. */
extern bool pfa_read_next(PfaRead *read);

/*
 * The same in two steps: the next entry of the index, and the row that it
 * points to, if there is one for the snapshot; or only whether there is one,
 * which mostly takes no look at the table.  Columns are the index's, from 1,
 * and values are valid until the next entry.
 */
extern bool pfa_read_next_entry(PfaRead *read);
extern Datum pfa_read_entry_column(PfaRead *read, int column, bool *isnull);
/* Of a column that has no nulls. */
extern Datum pfa_read_entry_value(PfaRead *read, int column);
extern bool pfa_read_fetch(PfaRead *read);
extern bool pfa_read_visible(PfaRead *read);

/* A record's id. */
typedef struct PfaId
{
	const char *bytes;
	uint32 len;
} PfaId;

/*
 * How many rows the entries have that are left, without those whose column
 * behind the columns that are equal, a text in byte order, is one of some ids,
 * which come in that order, too.
 */
extern int64 pfa_read_count(PfaRead *read, const PfaId *without, int nwithout);

/*
 * Whether the entry that an index scan is on has a row for its snapshot, as
 * nodeIndexonlyscan.c finds it: on pages that are all visible the row is not
 * looked at; else, and then *fetched is set, it is in the slot.  The buffer,
 * of the visibility map, is the caller's to release at the end.
 */
extern bool pfa_entry_visible(IndexScanDesc scan, TupleTableSlot *slot,
							  Buffer *vmbuffer, bool *fetched);

/* A text as a value to seek. */
extern NullableDatum pfa_text_value(const char *bytes, uint32 len);
extern NullableDatum pfa_string_value(const char *string);

/* Any column of the row; a null is an error that cannot happen. */
extern Datum pfa_slot_value(TupleTableSlot *slot, int attno);

/* The order of COLLATE "C". */
static inline int
pfa_compare_ids(const char *a, uint32 a_len, const char *b, uint32 b_len)
{
	int order = memcmp(a, b, Min(a_len, b_len));

	if (order != 0)
		return order;
	return a_len < b_len ? -1 : a_len > b_len;
}

#endif /* PFA_READ_H */

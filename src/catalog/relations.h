/*
 * relations.h
 *	  Our tables and indexes by OID, for code that reads them past the
 *	  executor, and that reading.
 *
 * Nothing here checks privileges or policies: whoever reads this way has
 * asked first what the caller may see (user_organization.h).
 */
#ifndef PFA_RELATIONS_H
#define PFA_RELATIONS_H

#include "postgres.h"
#include "access/genam.h"
#include "access/skey.h"
#include "executor/tuptable.h"
#include "storage/buf.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

typedef enum PfaRelation
{
	PFA_REL_MIRROR,
	PFA_REL_MODIFICATION,
	PFA_REL_USER_ORGANIZATION,
	PFA_REL_ORGANIZATION,
	PFA_REL_SYNC_STATE,
	PFA_REL_FIELD_MAPPING,
	/* indexes */
	PFA_REL_MIRROR_KEY,
	PFA_REL_MODIFICATION_DRAFT,
	PFA_REL_MODIFICATION_DRAFT_TOUCHED,
	PFA_REL_MODIFICATION_COMMITTED,
	PFA_REL_MODIFICATION_COMMITTED_TOUCHED,
	PFA_REL_USER_ORGANIZATION_KEY,
	PFA_REL_ORGANIZATION_KEY,
	PFA_REL_SYNC_STATE_KEY,
	PFA_REL_FIELD_MAPPING_KEY
} PfaRelation;

#define PFA_NRELATIONS (PFA_REL_FIELD_MAPPING_KEY + 1)

/* An error where it is missing. */
extern Oid pfa_relation_oid(PfaRelation relation);

/*
 * A read of a table through one of its B-trees.  The slot holds the row after
 * pfa_read_next has returned true.  What is open when an error is raised goes
 * with the transaction.
 */
typedef struct PfaRead
{
	Relation rel;
	Relation index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	MemoryContext context; /* of the scan; a B-tree allocates as it goes */
	Buffer vmbuffer;       /* of pfa_read_visible */
} PfaRead;

extern void pfa_read_open(PfaRead *read, PfaRelation table, PfaRelation index,
						  Snapshot snapshot, int nkeys);
/* Begin, or begin again, with other keys of the same number. */
extern void pfa_read_seek(PfaRead *read, ScanKey keys, int nkeys);
extern bool pfa_read_next(PfaRead *read);

/*
 * The same in two steps, after pfa_read_seek_entries: the next entry of the
 * index, and the row that it points to, if there is one for the snapshot; or
 * only whether there is one, which mostly takes no look at the table.  Columns
 * are the index's.
 */
extern void pfa_read_seek_entries(PfaRead *read, ScanKey keys, int nkeys);
extern bool pfa_read_next_entry(PfaRead *read);
extern Datum pfa_read_entry_value(PfaRead *read, int column);
extern bool pfa_read_fetch(PfaRead *read);
extern bool pfa_read_visible(PfaRead *read);

/*
 * Whether the entry that an index scan is on has a row for its snapshot, as
 * nodeIndexonlyscan.c finds it: on pages that are all visible the row is not
 * looked at; else, and then *fetched is set, it is in the slot.  The buffer,
 * of the visibility map, is the caller's to release at the end.
 */
extern bool pfa_entry_visible(IndexScanDesc scan, TupleTableSlot *slot,
							  Buffer *vmbuffer, bool *fetched);

extern void pfa_read_close(PfaRead *read);

/* Keys: column of the index (1 is the first), BT*StrategyNumber. */
extern void
pfa_key_text(ScanKey key, int column, StrategyNumber strategy, Datum text);
extern void
pfa_key_int64(ScanKey key, int column, StrategyNumber strategy, int64 value);

/* Any column of the row; a null is an error that cannot happen. */
extern Datum pfa_slot_value(TupleTableSlot *slot, int attno);

#endif /* PFA_RELATIONS_H */

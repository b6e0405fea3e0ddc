/*
 * overlay.h
 *	  Modifications that a user sees laid over the mirror: committed changes of
 *	  anybody, in the order in which they were committed, and on top the user's
 *	  own drafts.
 *
 * Changes that have reached PEMS (synced) are in the mirror already; they only
 * give a record its state.  Nothing here checks rights.
 */
#ifndef PFA_OVERLAY_H
#define PFA_OVERLAY_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "catalog/read.h"

typedef enum PfaSyncState
{
	PFA_STATE_PRISTINE,
	PFA_STATE_MODIFIED,
	PFA_STATE_PENDING_SYNC,
	PFA_STATE_SYNCING,
	PFA_STATE_SYNCED,
	PFA_STATE_CONFLICT,
	PFA_STATE_ERROR
} PfaSyncState;

#define PFA_NSTATES (PFA_STATE_ERROR + 1)

extern const char *const pfa_state_names[PFA_NSTATES];

/* Attribute numbers of pfa_modification. */
typedef enum PfaModificationAttribute
{
	PFA_MODIFICATION_ID = 1,
	PFA_MODIFICATION_ORGANIZATION_ID,
	PFA_MODIFICATION_PFA_ID,
	PFA_MODIFICATION_USER_ID,
	PFA_MODIFICATION_SESSION_ID,
	PFA_MODIFICATION_DELTA,
	PFA_MODIFICATION_BASE,
	PFA_MODIFICATION_BASE_VERSION,
	PFA_MODIFICATION_VERSION,
	PFA_MODIFICATION_SYNC_STATE,
	PFA_MODIFICATION_CHANGE_REASON,
	PFA_MODIFICATION_CREATED_AT,
	PFA_MODIFICATION_UPDATED_AT,
	PFA_MODIFICATION_COMMITTED_AT,
	PFA_MODIFICATION_SYNCED_AT,
	PFA_MODIFICATION_LAST_ERROR,
	PFA_MODIFICATION_TOUCHED
} PfaModificationAttribute;

typedef struct PfaOverlay
{
	const char *pfa_id;
	uint32 id_len;
	uint32 user_len;
	const char *user_id;
	int64 modification_id;
	PfaSyncState state;
	Jsonb *delta;
	TimestampTz updated_at;
	TimestampTz committed_at; /* 0: a draft */
	uint64 touched;
} PfaOverlay;

/* By record in byte order of ids, a record's from the lowest layer upwards. */
typedef struct PfaOverlayList
{
	PfaOverlay *items;
	int n;
	int room;
} PfaOverlayList;

/* Reads are opened when they are first needed. */
typedef struct PfaOverlays
{
	NullableDatum organization;
	NullableDatum user;
	Snapshot snapshot;
	MemoryContext context; /* of the reads */
	PfaRead draft;
	PfaRead draft_touched;
	PfaRead committed;
	PfaRead committed_touched;
} PfaOverlays;

extern void
pfa_overlays_open(PfaOverlays *overlays, const char *organization_id,
				  const char *user_id, Snapshot snapshot);
extern void pfa_overlays_close(PfaOverlays *overlays);

/* Those of one record, synced ones too.  The id stays the caller's. */
extern void pfa_overlays_of_record(PfaOverlays *overlays, const char *id,
								   uint32 id_len, PfaOverlayList *list);

/* Those of many records, whose ids come in byte order, each once. */
extern void pfa_overlays_of_records(PfaOverlays *overlays, const PfaId *ids,
									int n, PfaOverlayList *list);

/*
 * Those that touch one of the columns, without synced ones; see
 * pfa_touched_columns in mirror.h.  Costs a little for each combination of
 * columns that the user's drafts touch, and more only for what it finds.
 */
extern void pfa_overlays_touching(PfaOverlays *overlays, uint64 columns,
								  PfaOverlayList *list);

/*
 * The same from the indexes alone: of which records they are, and all that they
 * touch.  By record, in byte order of ids.
 */
typedef struct PfaMove
{
	PfaId id;
	uint64 prefix; /* of the id, to sort by */
	uint64 touched;
} PfaMove;

typedef struct PfaMoveList
{
	PfaMove *items;
	int n;
	int room;
} PfaMoveList;

extern void
pfa_overlays_moving(PfaOverlays *overlays, uint64 columns, PfaMoveList *list);

/* All that the user sees, synced ones too. */
extern void pfa_overlays_all(PfaOverlays *overlays, PfaOverlayList *list);

/* Index behind the last overlay of the record that first belongs to. */
static inline int
pfa_overlay_end(const PfaOverlayList *list, int first)
{
	int end = first + 1;

	while (end < list->n &&
		   pfa_compare_ids(list->items[first].pfa_id, list->items[first].id_len,
						   list->items[end].pfa_id,
						   list->items[end].id_len) == 0)
		end++;
	return end;
}

/* The same of moves. */
static inline int
pfa_move_end(const PfaMoveList *list, int first)
{
	const PfaId *id = &list->items[first].id;
	int end = first + 1;

	while (end < list->n &&
		   list->items[first].prefix == list->items[end].prefix &&
		   pfa_compare_ids(id->bytes, id->len, list->items[end].id.bytes,
						   list->items[end].id.len) == 0)
		end++;
	return end;
}

#endif /* PFA_OVERLAY_H */

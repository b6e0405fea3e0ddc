/*
 * record.h
 *	  One record as a user sees it.
 */
#ifndef PFA_MERGE_RECORD_H
#define PFA_MERGE_RECORD_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"

#include "catalog/merged.h"
#include "catalog/overlay.h"

/* A row of pfa_mirror, palloc'd. */
typedef struct PfaMirrorRecord
{
	const char *id;				/* the caller's */
	uint32		id_len;
	int64		version;
	TimestampTz synced_at;
	Jsonb	   *data;
} PfaMirrorRecord;

/* False where the organization has no such record. */
extern bool pfa_mirror_record_read(PfaMirrorRecord *record,
								   const char *organization_id,
								   const char *id, uint32 id_len,
								   Snapshot snapshot);

/*
 * {"pfaId", "data", "syncState", "modifiedAt", "modifiedBy"} of a mirror record
 * and its overlays.
 */
extern Jsonb *pfa_merge_element(const PfaMirrorRecord *record,
								const char *organization_id,
								const PfaOverlay *layers, int nlayers);

/* The same by id, under the active snapshot; NULL where there is no record. */
extern Jsonb *pfa_merge_record(const char *organization_id,
							   const char *user_id,
							   const char *id, uint32 id_len);

/*
 * The same as a row, in the columns of pfa_merged_row; false where there is no
 * record.
 */
#define PFA_MERGED_ROW_NATTS	28

extern bool pfa_merge_row(const char *organization_id, const char *user_id,
						  const char *id, uint32 id_len,
						  Datum *values, bool *nulls);

/* A time as JSON has it: ISO 8601, always in UTC. */
extern const char *pfa_merge_time(TimestampTz time);

#endif							/* PFA_MERGE_RECORD_H */

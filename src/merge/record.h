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
	const char *id; /* the caller's */
	uint32 id_len;
	int64 version;
	TimestampTz synced_at;
	Jsonb *data;
} PfaMirrorRecord;

/* Reads records of an organization one by one. */
typedef struct PfaMirrorReader
{
	PfaRead read;
	NullableDatum organization;
} PfaMirrorReader;

extern void
pfa_mirror_reader_open(PfaMirrorReader *reader, const char *organization_id,
					   Snapshot snapshot);
/* False where the organization has no such record. */
extern bool
pfa_mirror_reader_find(PfaMirrorReader *reader, PfaMirrorRecord *record,
					   const char *id, uint32 id_len);
/* Only whether it has, which mostly takes no look at the table. */
extern bool pfa_mirror_reader_exists(PfaMirrorReader *reader, const char *id,
									 uint32 id_len);
extern void pfa_mirror_reader_close(PfaMirrorReader *reader);

/*
 * {"pfaId", "data", "syncState", "modifiedAt", "modifiedBy"} of a mirror record
 * and its overlays: prepared, so that the room is known, and then written to
 * where it is to stand.
 */
typedef struct PfaElement
{
	const PfaMirrorRecord *record;
	PfaMerged merged; /* items: NULL where data is as it is stored */
	Size room;
} PfaElement;

extern void
pfa_element_prepare(PfaElement *element, const char *organization_id,
					const PfaMirrorRecord *record, const PfaOverlay *layers,
					int nlayers);
extern Size pfa_element_write(const PfaElement *element, char *out);

/* The same by id, under the active snapshot; NULL where there is no record. */
extern Jsonb *pfa_merge_record(const char *organization_id, const char *user_id,
							   const char *id, uint32 id_len);

/*
 * The same as a row, in the columns of pfa_merged_row; false where there is no
 * record.
 */
#define PFA_MERGED_ROW_NATTS 28

extern bool
pfa_merge_row(const char *organization_id, const char *user_id, const char *id,
			  uint32 id_len, Datum *values, bool *nulls);

/* A time as JSON has it: ISO 8601, always in UTC. */
extern const char *pfa_merge_time(TimestampTz time);

#endif /* PFA_MERGE_RECORD_H */

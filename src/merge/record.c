/*
 * record.c
 *	  One record as a user sees it.
 *
 * Three look-ups by index, of the record, of what was committed and of the
 * user's draft, and one copy of the record's bytes.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/jsonb_items.h"
#include "catalog/merged.h"
#include "catalog/mirror.h"
#include "catalog/relations.h"
#include "merge/record.h"

const char *
pfa_merge_time(TimestampTz time)
{
	static const int utc = 0;
	char	   *text = palloc(MAXDATELEN + 1);

	return JsonEncodeDateTime(text, TimestampTzGetDatum(time),
							  TIMESTAMPTZOID, &utc);
}

bool
pfa_mirror_record_read(PfaMirrorRecord *record, const char *organization_id,
					   const char *id, uint32 id_len, Snapshot snapshot)
{
	PfaRead		read;
	ScanKeyData keys[2];
	bool		found;

	record->id = id;
	record->id_len = id_len;
	pfa_key_text(&keys[0], 1, BTEqualStrategyNumber,
				 CStringGetTextDatum(organization_id));
	pfa_key_text(&keys[1], 2, BTEqualStrategyNumber,
				 PointerGetDatum(cstring_to_text_with_len(id, id_len)));
	pfa_read_open(&read, PFA_REL_MIRROR, PFA_REL_MIRROR_KEY, snapshot, 2);
	pfa_read_seek(&read, keys, 2);
	found = pfa_read_next(&read);
	if (found)
	{
		record->data = DatumGetJsonbPCopy(pfa_slot_value(read.slot,
														 PFA_MIRROR_DATA));
		record->version = DatumGetInt64(pfa_slot_value(read.slot,
													   PFA_MIRROR_VERSION));
		record->synced_at =
			DatumGetTimestampTz(pfa_slot_value(read.slot,
											   PFA_MIRROR_SYNCED_AT));
	}
	pfa_read_close(&read);
	return found;
}

static void
set_modified(PfaJsonbItem *items, const PfaOverlay *top)
{
	const char *time;

	if (top == NULL)
	{
		pfa_jsonb_set_null(&items[0], "modifiedAt");
		pfa_jsonb_set_null(&items[1], "modifiedBy");
		return;
	}
	time = pfa_merge_time(top->updated_at);
	pfa_jsonb_set_string(&items[0], "modifiedAt", time, strlen(time));
	pfa_jsonb_set_string(&items[1], "modifiedBy", top->user_id,
						 top->user_len);
}

static void
set_data(PfaJsonbItem *item, const PfaMerged *merged)
{
	char	   *bytes = palloc(pfa_jsonb_room(merged->items, merged->nitems));
	Size		len = pfa_jsonb_write_object(bytes, merged->items,
											 merged->nitems);

	pfa_jsonb_set_container(item, "data", bytes, len);
}

Jsonb *
pfa_merge_element(const PfaMirrorRecord *record, const char *organization_id,
				  const PfaOverlay *layers, int nlayers)
{
	PfaMerged	merged = {0};
	PfaJsonbItem items[5];
	const char *state;

	/* An untouched record is copied as it is. */
	if (nlayers == 0)
		pfa_jsonb_set_container(&items[0], "data",
								(const char *) &record->data->root,
								VARSIZE(record->data) - VARHDRSZ);
	else
	{
		pfa_merge(&merged, organization_id, &record->data->root,
				  layers, nlayers);
		set_data(&items[0], &merged);
	}
	state = pfa_state_names[merged.top == NULL ? PFA_STATE_PRISTINE :
							merged.top->state];
	pfa_jsonb_set_string(&items[1], "pfaId", record->id, record->id_len);
	pfa_jsonb_set_string(&items[2], "syncState", state, strlen(state));
	set_modified(&items[3], merged.top);
	return pfa_jsonb_make_object(items, 5);
}

/* A record and its overlays, under the active snapshot. */
static bool
read_record(const char *organization_id, const char *user_id,
			PfaMirrorRecord *record, PfaOverlayList *list,
			const char *id, uint32 id_len)
{
	Snapshot	snapshot = GetActiveSnapshot();
	PfaOverlays overlays;

	memset(list, 0, sizeof(*list));
	if (!pfa_mirror_record_read(record, organization_id, id, id_len,
								snapshot))
		return false;
	pfa_overlays_open(&overlays, organization_id, user_id, snapshot);
	pfa_overlays_of_record(&overlays, id, id_len, list);
	pfa_overlays_close(&overlays);
	return true;
}

Jsonb *
pfa_merge_record(const char *organization_id, const char *user_id,
				 const char *id, uint32 id_len)
{
	PfaMirrorRecord record;
	PfaOverlayList list;

	if (!read_record(organization_id, user_id, &record, &list, id, id_len))
		return NULL;
	return pfa_merge_element(&record, organization_id, list.items, list.n);
}

/* Columns of pfa_merged_row before those that repeat keys of data. */
#define ROW_DATA		0
#define ROW_STATE		1
#define ROW_MODIFIED_AT	2
#define ROW_MODIFIED_BY	3
#define ROW_VERSION		4
#define ROW_SYNCED_AT	5
#define ROW_FIRST_COLUMN 6

StaticAssertDecl(ROW_FIRST_COLUMN + PFA_MIRROR_NATTS -
				 PFA_MIRROR_FIRST_DERIVED + 1 == PFA_MERGED_ROW_NATTS,
				 "pfa_merged_row repeats the columns of pfa_mirror");

bool
pfa_merge_row(const char *organization_id, const char *user_id,
			  const char *id, uint32 id_len, Datum *values, bool *nulls)
{
	PfaMirrorRecord record;
	PfaOverlayList list;
	PfaMerged	merged;
	Jsonb	   *data;
	Datum		columns[PFA_MIRROR_NATTS];
	bool		column_nulls[PFA_MIRROR_NATTS];

	if (!read_record(organization_id, user_id, &record, &list, id, id_len))
		return false;
	pfa_merge(&merged, organization_id, &record.data->root,
			  list.items, list.n);
	data = pfa_jsonb_make_object(merged.items, merged.nitems);
	pfa_mirror_derive_columns(data, false, columns, column_nulls);

	memset(nulls, false, PFA_MERGED_ROW_NATTS * sizeof(bool));
	values[ROW_DATA] = JsonbPGetDatum(data);
	values[ROW_STATE] = CStringGetTextDatum(pfa_state_names[merged.top == NULL ?
															PFA_STATE_PRISTINE :
															merged.top->state]);
	nulls[ROW_MODIFIED_AT] = nulls[ROW_MODIFIED_BY] = merged.top == NULL;
	if (merged.top != NULL)
	{
		values[ROW_MODIFIED_AT] = TimestampTzGetDatum(merged.top->updated_at);
		values[ROW_MODIFIED_BY] =
			PointerGetDatum(cstring_to_text_with_len(merged.top->user_id,
													 merged.top->user_len));
	}
	values[ROW_VERSION] = Int64GetDatum(record.version);
	values[ROW_SYNCED_AT] = TimestampTzGetDatum(record.synced_at);
	for (int i = PFA_MIRROR_FIRST_DERIVED - 1; i < PFA_MIRROR_NATTS; i++)
	{
		int			at = ROW_FIRST_COLUMN + i - (PFA_MIRROR_FIRST_DERIVED - 1);

		values[at] = columns[i];
		nulls[at] = column_nulls[i];
	}
	return true;
}

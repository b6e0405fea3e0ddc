/*
 * record.c
 *	  One record as a user sees it.
 *
 * Three look-ups by index, of the record, of what was committed and of the
 * user's draft, and one copy of the record's bytes.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/jsonb_items.h"
#include "catalog/merged.h"
#include "catalog/mirror.h"
#include "catalog/read.h"
#include "merge/record.h"

const char *
pfa_merge_time(TimestampTz time)
{
	static const int utc = 0;
	char *text = palloc(MAXDATELEN + 1);

	return JsonEncodeDateTime(text, TimestampTzGetDatum(time), TIMESTAMPTZOID,
							  &utc);
}

void
pfa_mirror_reader_open(PfaMirrorReader *reader, const char *organization_id,
					   Snapshot snapshot)
{
	reader->organization = pfa_string_value(organization_id);
	pfa_read_open(&reader->read, PFA_REL_MIRROR, PFA_REL_MIRROR_KEY, snapshot);
}

static void
seek(PfaMirrorReader *reader, const char *id, uint32 id_len)
{
	NullableDatum key[] = {reader->organization, pfa_text_value(id, id_len)};

	pfa_read_seek(&reader->read, key, lengthof(key));
}

bool
pfa_mirror_reader_exists(PfaMirrorReader *reader, const char *id, uint32 id_len)
{
	seek(reader, id, id_len);
	while (pfa_read_next_entry(&reader->read))
	{
		if (pfa_read_visible(&reader->read))
			return true;
	}
	return false;
}

bool
pfa_mirror_reader_find(PfaMirrorReader *reader, PfaMirrorRecord *record,
					   const char *id, uint32 id_len)
{
	TupleTableSlot *slot = reader->read.slot;

	seek(reader, id, id_len);
	if (!pfa_read_next(&reader->read))
		return false;
	record->id = id;
	record->id_len = id_len;
	record->data = DatumGetJsonbPCopy(pfa_slot_value(slot, PFA_MIRROR_DATA));
	record->version = DatumGetInt64(pfa_slot_value(slot, PFA_MIRROR_VERSION));
	record->synced_at = DatumGetTimestampTz(
		pfa_slot_value(slot, PFA_MIRROR_SYNCED_AT));
	return true;
}

void
pfa_mirror_reader_close(PfaMirrorReader *reader)
{
	pfa_read_close(&reader->read);
}

/* ---- elements ---- */

static const char *const element_keys[] = {"data", "pfaId", "syncState",
										   "modifiedAt", "modifiedBy"};

/* Keys, entries, a time and paddings; texts and data come on top. */
#define ELEMENT_ROOM 256

void
pfa_element_prepare(PfaElement *element, const char *organization_id,
					const PfaMirrorRecord *record, const PfaOverlay *layers,
					int nlayers)
{
	element->record = record;
	element->room = ELEMENT_ROOM + record->id_len;
	memset(&element->merged, 0, sizeof(element->merged));
	if (nlayers == 0)
	{
		element->room += VARSIZE(record->data);
		return;
	}
	pfa_merge(&element->merged, organization_id, &record->data->root, layers,
			  nlayers);
	element->room += element->merged.top->user_len +
		pfa_jsonb_room(element->merged.items, element->merged.nitems);
}

static Size
write_data(const PfaElement *element, char *out)
{
	const Jsonb *data = element->record->data;

	/* An untouched record is copied as it is. */
	if (element->merged.items == NULL)
	{
		memcpy(out, &data->root, VARSIZE(data) - VARHDRSZ);
		return VARSIZE(data) - VARHDRSZ;
	}
	return pfa_jsonb_write_object(out, element->merged.items,
								  element->merged.nitems);
}

static void
put_string(PfaJsonbTarget *target, const char *text, size_t len)
{
	PfaJsonbItem item;

	pfa_jsonb_set_string(&item, NULL, text, len);
	pfa_jsonb_put(target, &item);
}

Size
pfa_element_write(const PfaElement *element, char *out)
{
	const PfaOverlay *top = element->merged.top;
	const char *state =
		pfa_state_names[top == NULL ? PFA_STATE_PRISTINE : top->state];
	PfaJsonbTarget target;

	pfa_jsonb_begin_object(&target, out, element_keys, lengthof(element_keys));
	pfa_jsonb_placed(&target, write_data(element, pfa_jsonb_place(&target)));
	put_string(&target, element->record->id, element->record->id_len);
	put_string(&target, state, strlen(state));
	if (top == NULL)
	{
		PfaJsonbItem null;

		pfa_jsonb_set_null(&null, NULL);
		pfa_jsonb_put(&target, &null);
		pfa_jsonb_put(&target, &null);
	}
	else
	{
		const char *time = pfa_merge_time(top->updated_at);

		put_string(&target, time, strlen(time));
		put_string(&target, top->user_id, top->user_len);
	}
	return pfa_jsonb_end(&target);
}

/* ---- one record ---- */

/* A record and its overlays, under the active snapshot. */
static bool
read_record(const char *organization_id, const char *user_id,
			PfaMirrorRecord *record, PfaOverlayList *list, const char *id,
			uint32 id_len)
{
	Snapshot snapshot = GetActiveSnapshot();
	PfaMirrorReader reader;
	PfaOverlays overlays;
	bool found;

	memset(list, 0, sizeof(*list));
	pfa_mirror_reader_open(&reader, organization_id, snapshot);
	found = pfa_mirror_reader_find(&reader, record, id, id_len);
	pfa_mirror_reader_close(&reader);
	if (!found)
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
	PfaElement element;
	Jsonb *jsonb;

	if (!read_record(organization_id, user_id, &record, &list, id, id_len))
		return NULL;
	pfa_element_prepare(&element, organization_id, &record, list.items, list.n);
	pfa_jsonb_check_size(element.room);
	jsonb = palloc(VARHDRSZ + element.room);
	SET_VARSIZE(jsonb, VARHDRSZ + pfa_element_write(&element, VARDATA(jsonb)));
	return jsonb;
}

/* Columns of pfa_merged_row before those that repeat keys of data. */
#define ROW_DATA         0
#define ROW_STATE        1
#define ROW_MODIFIED_AT  2
#define ROW_MODIFIED_BY  3
#define ROW_VERSION      4
#define ROW_SYNCED_AT    5
#define ROW_FIRST_COLUMN 6

StaticAssertDecl(ROW_FIRST_COLUMN + PFA_MIRROR_NATTS -
						 PFA_MIRROR_FIRST_DERIVED + 1 ==
					 PFA_MERGED_ROW_NATTS,
				 "pfa_merged_row repeats the columns of pfa_mirror");

bool
pfa_merge_row(const char *organization_id, const char *user_id, const char *id,
			  uint32 id_len, Datum *values, bool *nulls)
{
	PfaMirrorRecord record;
	PfaOverlayList list;
	PfaMerged merged;
	Jsonb *data;
	Datum columns[PFA_MIRROR_NATTS];
	bool column_nulls[PFA_MIRROR_NATTS];

	if (!read_record(organization_id, user_id, &record, &list, id, id_len))
		return false;
	pfa_merge(&merged, organization_id, &record.data->root, list.items, list.n);
	data = pfa_jsonb_make_object(merged.items, merged.nitems);
	pfa_mirror_derive_columns(data, false, columns, column_nulls);

	memset(nulls, false, PFA_MERGED_ROW_NATTS * sizeof(bool));
	values[ROW_DATA] = JsonbPGetDatum(data);
	values[ROW_STATE] = CStringGetTextDatum(
		pfa_state_names[merged.top == NULL ? PFA_STATE_PRISTINE :
											 merged.top->state]);
	nulls[ROW_MODIFIED_AT] = nulls[ROW_MODIFIED_BY] = merged.top == NULL;
	if (merged.top != NULL)
	{
		values[ROW_MODIFIED_AT] = TimestampTzGetDatum(merged.top->updated_at);
		values[ROW_MODIFIED_BY] = PointerGetDatum(
			cstring_to_text_with_len(merged.top->user_id,
									 merged.top->user_len));
	}
	values[ROW_VERSION] = Int64GetDatum(record.version);
	values[ROW_SYNCED_AT] = TimestampTzGetDatum(record.synced_at);
	for (int i = PFA_MIRROR_FIRST_DERIVED - 1; i < PFA_MIRROR_NATTS; i++)
	{
		int at = ROW_FIRST_COLUMN + i - (PFA_MIRROR_FIRST_DERIVED - 1);

		values[at] = columns[i];
		nulls[at] = column_nulls[i];
	}
	return true;
}

/*
 * mirror_trigger.c
 *	  pfa_mirror_derive(): keeps pfa_mirror's columns true for any writer.
 *
 * A row whose writer gives a content_hash is complete: a sync through SQL, or
 * a restore.  Its version and synced_at stay as given.  Whoever changes data
 * without vouching for it so leaves content_hash 0, and the next sync looks at
 * the record again.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "catalog/mirror.h"

PG_FUNCTION_INFO_V1(pfa_mirror_derive);

static void
check_call(FunctionCallInfo fcinfo)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		ereport(
			ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg(
				 "function \"%s\" must be called as a trigger before insert or update of a row",
				 "pfa_mirror_derive")));
	if (trigger->tg_relation->rd_att->natts < PFA_MIRROR_NATTS ||
		strcmp(NameStr(TupleDescAttr(trigger->tg_relation->rd_att,
									 PFA_MIRROR_NATTS - 1)
						   ->attname),
			   "is_funds_transferable") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("table \"%s\" does not have the columns of pfa_mirror",
						RelationGetRelationName(trigger->tg_relation))));
}

/* data is an object whose pfaId is the row's; a missing pfa_id is filled. */
static Jsonb *
check_data(Datum *values, bool *nulls)
{
	JsonbValue buffer;
	JsonbValue *id = NULL;
	Jsonb *data;

	if (nulls[PFA_MIRROR_DATA - 1])
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("data of a mirrored record must not be null")));
	data = DatumGetJsonbP(values[PFA_MIRROR_DATA - 1]);
	if (!JB_ROOT_IS_OBJECT(data))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("data of a mirrored record must be a JSON object")));
	id = getKeyJsonValueFromContainer(&data->root, "pfaId", 5, &buffer);
	if (id == NULL || id->type != jbvString || id->val.string.len == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_NOT_NULL_VIOLATION),
			 errmsg("data of a mirrored record must have a string \"pfaId\"")));
	if (nulls[PFA_MIRROR_PFA_ID - 1])
	{
		values[PFA_MIRROR_PFA_ID - 1] = PointerGetDatum(
			cstring_to_text_with_len(id->val.string.val, id->val.string.len));
		nulls[PFA_MIRROR_PFA_ID - 1] = false;
	}
	else
	{
		text *stored = DatumGetTextPP(values[PFA_MIRROR_PFA_ID - 1]);

		if ((int) VARSIZE_ANY_EXHDR(stored) != id->val.string.len ||
			memcmp(VARDATA_ANY(stored), id->val.string.val,
				   id->val.string.len) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_CHECK_VIOLATION),
					 errmsg("\"pfaId\" of data differs from pfa_id \"%s\"",
							text_to_cstring(stored))));
	}
	return data;
}

static void
set_value(Datum *values, bool *nulls, int attno, Datum value)
{
	values[attno - 1] = value;
	nulls[attno - 1] = false;
}

static bool
is_vouched(const Datum *values, const bool *nulls)
{
	return !nulls[PFA_MIRROR_CONTENT_HASH - 1] &&
		DatumGetInt64(values[PFA_MIRROR_CONTENT_HASH - 1]) != 0;
}

static void
complete_insert(Datum *values, bool *nulls)
{
	if (nulls[PFA_MIRROR_CONTENT_HASH - 1])
		set_value(values, nulls, PFA_MIRROR_CONTENT_HASH, Int64GetDatum(0));
	if (nulls[PFA_MIRROR_VERSION - 1])
		set_value(values, nulls, PFA_MIRROR_VERSION, Int64GetDatum(1));
	if (nulls[PFA_MIRROR_SYNCED_AT - 1])
		set_value(values, nulls, PFA_MIRROR_SYNCED_AT,
				  TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
}

static bool
same_data(Datum a, Datum b)
{
	Jsonb *x = DatumGetJsonbP(a);
	Jsonb *y = DatumGetJsonbP(b);

	return VARSIZE(x) == VARSIZE(y) && memcmp(x, y, VARSIZE(x)) == 0;
}

static void
complete_update(TriggerData *trigger, int natts, Datum *values, bool *nulls)
{
	Datum *old_values = palloc(natts * sizeof(Datum));
	bool *old_nulls = palloc(natts * sizeof(bool));
	bool hash_given;

	heap_deform_tuple(trigger->tg_trigtuple, trigger->tg_relation->rd_att,
					  old_values, old_nulls);
	hash_given = is_vouched(values, nulls) &&
		old_values[PFA_MIRROR_CONTENT_HASH - 1] !=
			values[PFA_MIRROR_CONTENT_HASH - 1];
	if (!hash_given &&
		!same_data(old_values[PFA_MIRROR_DATA - 1],
				   values[PFA_MIRROR_DATA - 1]))
	{
		set_value(values, nulls, PFA_MIRROR_CONTENT_HASH, Int64GetDatum(0));
		set_value(values, nulls, PFA_MIRROR_VERSION,
				  Int64GetDatum(
					  DatumGetInt64(old_values[PFA_MIRROR_VERSION - 1]) + 1));
		set_value(values, nulls, PFA_MIRROR_SYNCED_AT,
				  TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	}
}

Datum
pfa_mirror_derive(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc desc;
	HeapTuple tuple;
	Datum *values;
	bool *nulls;
	Jsonb *data;
	bool update;

	check_call(fcinfo);
	update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
	tuple = update ? trigger->tg_newtuple : trigger->tg_trigtuple;
	desc = trigger->tg_relation->rd_att;
	values = palloc(desc->natts * sizeof(Datum));
	nulls = palloc(desc->natts * sizeof(bool));
	heap_deform_tuple(tuple, desc, values, nulls);

	data = check_data(values, nulls);
	if (update)
		complete_update(trigger, desc->natts, values, nulls);
	else
		complete_insert(values, nulls);

	/*
	 * A sync stores what its mapping gives, so a restored row may hold kinds
	 * that nobody may write by hand.
	 */
	pfa_mirror_derive_columns(data, !is_vouched(values, nulls), values, nulls);
	return PointerGetDatum(heap_form_tuple(desc, values, nulls));
}

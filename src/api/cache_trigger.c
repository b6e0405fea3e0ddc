/*
 * cache_trigger.c
 *	  pfa_note_change(): tells the cache what a transaction changes.
 *
 * A row trigger, before the change: it costs a call and a comparison a row,
 * queues nothing, and fires for COPY, MERGE and logical replication too.  Its
 * name is behind pfa_mirror_derive, so that it sees the row as it will be.
 * Syncs write the mirror past triggers and note the change themselves
 * (catalog/mirror.c).
 *
 * The trigger's argument says what the table is about; its rows hold the names
 * in the columns below.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "catalog/overlay.h"
#include "generation.h"

PG_FUNCTION_INFO_V1(pfa_note_change);

#define FIRST_COLUMN       1
#define STATE_LAST_SUCCESS 3 /* of pfa_sync_state */
#define MEMBER_USER        1 /* of pfa_user_organization */

typedef struct Word
{
	const char *ptr;
	int len;
} Word;

/* "" for a null. */
static Word
name_of(HeapTuple tuple, TupleDesc desc, int attno)
{
	Word name = {"", 0};
	bool isnull;
	Datum value = heap_getattr(tuple, attno, desc, &isnull);

	if (!isnull)
	{
		text *t = DatumGetTextPP(value);

		name.ptr = VARDATA_ANY(t);
		name.len = VARSIZE_ANY_EXHDR(t);
	}
	return name;
}

static bool
name_equals(Word name, const char *text)
{
	return name.len == (int) strlen(text) &&
		memcmp(name.ptr, text, name.len) == 0;
}

/* ---- what a row version of each table stands for ---- */

static void
note_records(HeapTuple tuple, TupleDesc desc)
{
	Word organization = name_of(tuple, desc, FIRST_COLUMN);

	pfa_generation_note(PFA_SUBJECT_RECORDS, organization.ptr, organization.len,
						"", 0);
}

/* A draft is seen by its user only. */
static void
note_modification(HeapTuple tuple, TupleDesc desc)
{
	Word organization = name_of(tuple, desc, PFA_MODIFICATION_ORGANIZATION_ID);
	Word user = name_of(tuple, desc, PFA_MODIFICATION_USER_ID);
	Word state = name_of(tuple, desc, PFA_MODIFICATION_SYNC_STATE);

	if (name_equals(state, "modified"))
		pfa_generation_note(PFA_SUBJECT_DRAFTS, organization.ptr,
							organization.len, user.ptr, user.len);
	else
		pfa_generation_note(PFA_SUBJECT_RECORDS, organization.ptr,
							organization.len, "", 0);
}

static void
note_config(HeapTuple tuple, TupleDesc desc)
{
	Word organization = name_of(tuple, desc, FIRST_COLUMN);

	pfa_generation_note(PFA_SUBJECT_CONFIG, organization.ptr, organization.len,
						"", 0);
}

static void
note_member(HeapTuple tuple, TupleDesc desc)
{
	Word user = name_of(tuple, desc, MEMBER_USER);

	pfa_generation_note(PFA_SUBJECT_USER, "", 0, user.ptr, user.len);
}

/* Backends keep the mapping: see generation.c. */
static void
note_mapping(HeapTuple tuple, TupleDesc desc)
{
	pfa_generation_note_everything();
}

static const struct
{
	const char *name;
	void (*note)(HeapTuple tuple, TupleDesc desc);
	bool is_schedule;
} kinds[] = {{"records", note_records, false},
			 {"modification", note_modification, false},
			 {"schedule", note_records, true},
			 {"organization", note_config, false},
			 {"member", note_member, false},
			 {"mapping", note_mapping, false}};

/* ---- the trigger ---- */

static int
kind_of(const Trigger *trigger)
{
	for (size_t i = 0; trigger->tgnargs == 1 && i < lengthof(kinds); i++)
	{
		if (strcmp(trigger->tgargs[0], kinds[i].name) == 0)
			return (int) i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("trigger \"%s\" is not as the extension made it",
					trigger->tgname),
			 errhint("Drop it, and create the extension's trigger again.")));
}

/* Of the schedule, answers show when the last sync succeeded. */
static bool
same_success(TriggerData *trigger, TupleDesc desc)
{
	bool old_null;
	bool new_null;
	Datum old_value = heap_getattr(trigger->tg_trigtuple, STATE_LAST_SUCCESS,
								   desc, &old_null);
	Datum new_value = heap_getattr(trigger->tg_newtuple, STATE_LAST_SUCCESS,
								   desc, &new_null);

	return old_null == new_null && (old_null || old_value == new_value);
}

static HeapTuple
note_row(TriggerData *trigger)
{
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	int kind = kind_of(trigger->tg_trigger);
	bool update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);

	if (update && kinds[kind].is_schedule && same_success(trigger, desc))
		return trigger->tg_newtuple;
	kinds[kind].note(trigger->tg_trigtuple, desc);
	if (!update)
		return trigger->tg_trigtuple;
	kinds[kind].note(trigger->tg_newtuple, desc);
	return trigger->tg_newtuple;
}

Datum
pfa_note_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		(TRIGGER_FIRED_FOR_ROW(trigger->tg_event) &&
		 !TRIGGER_FIRED_BEFORE(trigger->tg_event)))
		ereport(
			ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg(
				 "function \"%s\" must be called as a trigger before a row changes, or after TRUNCATE",
				 "pfa_note_change")));
	if (TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		return PointerGetDatum(note_row(trigger));
	pfa_generation_note_everything();
	return PointerGetDatum(NULL);
}

/*
 * kpi_trigger.c
 *	  pfa_mirror_kpi(): keeps the KPI true for any writer of pfa_mirror.
 *
 * One statement-level trigger for each kind of statement, which finds old and
 * new rows in transition tables: INSERT, UPDATE, DELETE, MERGE and COPY by
 * whomever.  Syncs write past triggers and do the same in catalog/mirror.c.
 *
 * TRUNCATE empties the mirror for all snapshots, older ones too, so it empties
 * the KPI in the same way.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "catalog/kpi.h"
#include "catalog/mirror.h"
#include "catalog/mv_change.h"
#include "catalog/spi.h"
#include "kpi/compact.h"

PG_FUNCTION_INFO_V1(pfa_mirror_kpi);

static void
check_call(FunctionCallInfo fcinfo)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
		ereport(
			ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg(
				 "function \"%s\" must be called as a trigger after a statement",
				 "pfa_mirror_kpi")));
	if (RelationGetDescr(trigger->tg_relation)->natts < PFA_MIRROR_NATTS ||
		(!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) &&
		 !TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) &&
		 trigger->tg_oldtable == NULL) ||
		(!TRIGGER_FIRED_BY_DELETE(trigger->tg_event) &&
		 !TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) &&
		 trigger->tg_newtable == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" is not as the extension made it",
						trigger->tg_trigger->tgname),
				 errhint(
					 "Drop it, and create the extension's trigger again.")));
}

/* Returns whether there are rows at all. */
static bool
add_rows(PfaKpiSet *set, Relation rel, Tuplestorestate *rows, int sign)
{
	TupleTableSlot *slot;
	bool any = false;

	if (rows == NULL)
		return false;
	slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsMinimalTuple);
	/* Other readers of a transition table have read pointers of their own. */
	tuplestore_select_read_pointer(rows, 0);
	tuplestore_rescan(rows);
	while (tuplestore_gettupleslot(rows, true, false, slot))
	{
		slot_getsomeattrs(slot, PFA_MIRROR_NATTS);
		pfa_kpi_record(set, slot->tts_values, slot->tts_isnull, sign);
		any = true;
	}
	ExecDropSingleTupleTableSlot(slot);
	return any;
}

static void
empty_kpi(Oid schema)
{
	(void) pfa_spi_run("TRUNCATE @.@.pfa_kpi, @.@.pfa_kpi_delta", 0, NULL, NULL,
					   NULL);
	pfa_mv_mark_changed(schema);
}

Datum
pfa_mirror_kpi(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation rel;
	Oid schema;
	PfaKpiSet *set;
	bool any;

	check_call(fcinfo);
	rel = trigger->tg_relation;
	schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
	{
		empty_kpi(schema);
		return PointerGetDatum(NULL);
	}
	set = pfa_kpi_set_create();
	any = add_rows(set, rel, trigger->tg_oldtable, -1);
	any |= add_rows(set, rel, trigger->tg_newtable, 1);
	if (any)
		pfa_kpi_store(schema, set);
	pfa_kpi_set_free(set);
	if (any)
		pfa_kpi_compact_without_scheduler();
	return PointerGetDatum(NULL);
}

/*
 * drafts.c
 *	  The effect of modifications on the KPI, from the records concerned alone.
 *
 * Modifications are read in the order of records, each record of the mirror is
 * fetched by its key, and only columns that a modification touches are derived
 * anew.  Records that have left the mirror count for nothing.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "catalog/merged.h"
#include "catalog/mirror.h"
#include "catalog/read.h"
#include "kpi/drafts.h"

/* Columns that the KPI are made of. */
static const PfaMirrorAttribute kpi_columns[] =
	{PFA_MIRROR_CATEGORY,
	 PFA_MIRROR_SOURCE,
	 PFA_MIRROR_DOR,
	 PFA_MIRROR_MONTHLY_RATE,
	 PFA_MIRROR_PLAN_COST,
	 PFA_MIRROR_FORECAST_COST,
	 PFA_MIRROR_ACTUAL_COST,
	 PFA_MIRROR_IS_ACTUALIZED,
	 PFA_MIRROR_IS_DISCONTINUED,
	 PFA_MIRROR_IS_FUNDS_TRANSFERABLE};

typedef struct Drafts
{
	const char *organization_id;
	PfaRead mirror;
	NullableDatum key[2];
	const PfaMirrorColumn *columns[lengthof(kpi_columns)];
	uint64 masks[lengthof(kpi_columns)];
	PfaKpiSet *set;
	int64 *states;
	Datum blank_values[PFA_MIRROR_NATTS];
	bool blank_nulls[PFA_MIRROR_NATTS];
} Drafts;

static void
find_columns(Drafts *drafts)
{
	int ncolumns;
	const PfaMirrorColumn *columns = pfa_mirror_columns(&ncolumns);

	for (size_t i = 0; i < lengthof(kpi_columns); i++)
	{
		for (int j = 0; j < ncolumns; j++)
		{
			if (columns[j].attno == kpi_columns[i])
			{
				drafts->columns[i] = &columns[j];
				drafts->masks[i] = PFA_TOUCHED_COLUMN(
					pfa_mirror_column_number(&columns[j]));
			}
		}
	}
	pfa_mirror_blank(drafts->blank_values, drafts->blank_nulls);
}

static bool
find_record(Drafts *drafts, const PfaOverlay *overlay)
{
	drafts->key[1] = pfa_text_value(overlay->pfa_id, overlay->id_len);
	pfa_read_seek(&drafts->mirror, drafts->key, lengthof(drafts->key));
	if (!pfa_read_next(&drafts->mirror))
		return false;
	slot_getsomeattrs(drafts->mirror.slot, PFA_MIRROR_NATTS);
	return true;
}

/* Write columns that are touched over those of the stored record. */
static void
derive_touched(const Drafts *drafts, const PfaMerged *merged, uint64 touched,
			   Datum *values, bool *nulls)
{
	for (size_t i = 0; i < lengthof(kpi_columns); i++)
	{
		const PfaMirrorColumn *column = drafts->columns[i];
		int at = kpi_columns[i] - 1;
		const PfaJsonbItem *item;
		JsonbValue value;

		if (!(touched & drafts->masks[i]))
			continue;
		values[at] = drafts->blank_values[at];
		nulls[at] = drafts->blank_nulls[at];
		item = pfa_jsonb_find(merged->items, merged->nitems, column->key);
		if (item == NULL || item->type == JENTRY_ISNULL)
			continue;
		pfa_jsonb_get_value(item, &value);
		values[at] = pfa_mirror_derive_column(column, &value, &nulls[at]);
		/* As a record that is written: no value is the blank. */
		if (nulls[at])
		{
			values[at] = drafts->blank_values[at];
			nulls[at] = drafts->blank_nulls[at];
		}
	}
}

/* A record and its layers. */
static void
add_record(Drafts *drafts, const PfaOverlay *layers, int nlayers)
{
	TupleTableSlot *slot = drafts->mirror.slot;
	Datum values[PFA_MIRROR_NATTS];
	bool nulls[PFA_MIRROR_NATTS];
	PfaMerged merged;
	uint64 touched = 0;
	uint64 wanted = 0;

	if (!find_record(drafts, &layers[0]))
		return;
	drafts->states[layers[nlayers - 1].state]++;
	for (int i = 0; i < nlayers; i++)
		touched |= layers[i].touched;
	for (size_t i = 0; i < lengthof(kpi_columns); i++)
		wanted |= drafts->masks[i];
	if ((touched & wanted) == 0)
		return;

	pfa_merge(&merged, drafts->organization_id,
			  &DatumGetJsonbP(slot->tts_values[PFA_MIRROR_DATA - 1])->root,
			  layers, nlayers);
	memcpy(values, slot->tts_values, sizeof(values));
	memcpy(nulls, slot->tts_isnull, sizeof(nulls));
	derive_touched(drafts, &merged, touched, values, nulls);
	pfa_kpi_record(drafts->set, slot->tts_values, slot->tts_isnull, -1);
	pfa_kpi_record(drafts->set, values, nulls, 1);
}

void
pfa_kpi_drafts(PfaKpiSet *set, const char *organization_id, const char *user_id,
			   int64 *states)
{
	Drafts drafts = {0};
	PfaOverlays overlays;
	PfaOverlayList list = {0};
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext record;

	pfa_overlays_open(&overlays, organization_id, user_id, GetActiveSnapshot());
	pfa_overlays_touching(&overlays, PFA_TOUCHED_ANY, &list);
	pfa_overlays_close(&overlays);
	if (list.n == 0)
		return;

	drafts.organization_id = organization_id;
	drafts.set = set;
	drafts.states = states;
	find_columns(&drafts);
	drafts.key[0] = pfa_string_value(organization_id);
	pfa_read_open(&drafts.mirror, PFA_REL_MIRROR, PFA_REL_MIRROR_KEY,
				  GetActiveSnapshot());
	record = AllocSetContextCreate(caller, "pfa_vanguard kpi draft",
								   ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < list.n;)
	{
		int end = pfa_overlay_end(&list, i);

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(record);
		add_record(&drafts, &list.items[i], end - i);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(record);
		i = end;
	}
	MemoryContextDelete(record);
	pfa_read_close(&drafts.mirror);
}

/*
 * merged.c
 *	  A mirror record with modifications laid over it.
 *
 * Members of both are sorted by key, so laying one over the other is a merge of
 * two lists of pointers; no value is decoded.  Costs are the exception: what
 * their terms have become decides, by the rule that syncs compute them with
 * (cost.h), so that a record looks the same before and after PEMS has taken the
 * change.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/builtins.h"

#include "catalog/cost.h"
#include "catalog/field_table.h"
#include "catalog/merged.h"
#include "catalog/mirror.h"

/* Digits that are sure to fit a mantissa. */
#define MANTISSA_DIGITS 18

void
pfa_merge_items(PfaJsonbItem **items, int *nitems, const PfaJsonbItem *change,
				int nchange)
{
	const PfaJsonbItem *old = *items;
	int nold = *nitems;
	PfaJsonbItem *merged = palloc(sizeof(PfaJsonbItem) *
								  Max(nold + nchange, 1));
	int n = 0;
	int i = 0;

	for (int j = 0; j < nchange; j++)
	{
		int order = -1;

		while (i < nold &&
			   (order = pfa_jsonb_compare_keys(old[i].key, old[i].key_len,
											   change[j].key,
											   change[j].key_len)) < 0)
			merged[n++] = old[i++];
		if (i < nold && order == 0)
			i++;
		merged[n++] = change[j];
	}
	while (i < nold)
		merged[n++] = old[i++];
	*items = merged;
	*nitems = n;
}

/*
 * The same in place, where the record has the key already, as it mostly does.
 * The items are merged's own.
 */
static void
set_item(PfaMerged *merged, const PfaJsonbItem *change)
{
	int low = 0;
	int high = merged->nitems;

	while (low < high)
	{
		int middle = (low + high) / 2;
		PfaJsonbItem *item = &merged->items[middle];
		int order = pfa_jsonb_compare_keys(item->key, item->key_len,
										   change->key, change->key_len);

		if (order == 0)
		{
			*item = *change;
			return;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	pfa_merge_items(&merged->items, &merged->nitems, change, 1);
}

/* ---- costs ---- */

static const PfaValue *
text_term(const PfaMerged *merged, const char *key, PfaValue *value)
{
	const PfaJsonbItem *item = pfa_jsonb_find(merged->items, merged->nitems,
											  key);

	if (item == NULL || item->type != JENTRY_ISSTRING)
		return NULL;
	memset(value, 0, sizeof(*value));
	value->ptr = item->value;
	value->len = item->len;
	return value;
}

static const PfaValue *
date_term(const PfaMerged *merged, const char *key, PfaValue *value)
{
	const PfaJsonbItem *item = pfa_jsonb_find(merged->items, merged->nitems,
											  key);

	memset(value, 0, sizeof(*value));
	if (item == NULL || item->type != JENTRY_ISSTRING ||
		!pfa_mirror_parse_date(item->value, item->len, &value->days))
		return NULL;
	return value;
}

/* A long number stays text, for the server's arithmetic. */
static const PfaValue *
number_term(const PfaMerged *merged, const char *key, PfaValue *value)
{
	const PfaJsonbItem *item = pfa_jsonb_find(merged->items, merged->nitems,
											  key);
	char *text;
	bool fraction = false;

	if (item == NULL || item->type != JENTRY_ISNUMERIC)
		return NULL;
	memset(value, 0, sizeof(*value));
	text = DatumGetCString(
		DirectFunctionCall1(numeric_out, PointerGetDatum(item->value)));
	if (strlen(text) > MANTISSA_DIGITS)
	{
		value->ptr = text;
		value->len = strlen(text);
		return value;
	}
	for (const char *p = text; *p != '\0'; p++)
	{
		if (*p == '.')
			fraction = true;
		else if (*p != '-')
		{
			value->mantissa = value->mantissa * 10 + (*p - '0');
			value->scale += fraction;
		}
	}
	if (text[0] == '-')
		value->mantissa = -value->mantissa;
	return value;
}

static void
set_cost(PfaMerged *merged, const char *key, PfaCostResult result, int64 cents,
		 Numeric large)
{
	PfaJsonbItem item;
	char *number;

	switch (result)
	{
		case PFA_COST_NONE:
			pfa_jsonb_set_null(&item, key);
			break;
		case PFA_COST_CENTS:
			number = palloc(PFA_NUMERIC_BYTES);
			(void) pfa_numeric_write(number, cents, 2, 2);
			pfa_jsonb_set_numeric(&item, key, (Numeric) number);
			break;
		case PFA_COST_LARGE:
			pfa_jsonb_set_numeric(&item, key, large);
			break;
	}
	set_item(merged, &item);
}

static void
compute_cost(PfaMerged *merged, PfaPeriod period, const char *cost_key)
{
	static const char *const starts[] = {"originalStart", "forecastStart",
										 "actualStart"};
	static const char *const ends[] = {"originalEnd", "forecastEnd",
									   "actualEnd"};
	PfaValue values[5];
	PfaCostTerms terms;
	PfaCostResult result;
	int64 cents = 0;
	Numeric large = NULL;
	const PfaJsonbItem *actualized = pfa_jsonb_find(merged->items,
													merged->nitems,
													"isActualized");

	terms.actualized = actualized != NULL &&
		actualized->type == JENTRY_ISBOOL_TRUE;
	terms.source = text_term(merged, "source", &values[0]);
	terms.purchase_price = number_term(merged, "purchasePrice", &values[1]);
	terms.monthly_rate = number_term(merged, "monthlyRate", &values[2]);
	terms.start = date_term(merged, starts[period], &values[3]);
	terms.end = date_term(merged, ends[period], &values[4]);
	result = pfa_cost_compute(&terms, period, &cents, &large);
	set_cost(merged, cost_key, result, cents, large);
}

static void
compute_costs(PfaMerged *merged, const char *organization_id, uint64 touched)
{
	const PfaFieldTable *fields = NULL;

	for (int period = 0; period < PFA_NPERIODS; period++)
	{
		const PfaMirrorColumn *column = pfa_mirror_cost_column(period);

		if (!(touched & PFA_TOUCHED_COLUMN(pfa_mirror_column_number(column))))
			continue;
		if (fields == NULL)
			fields = pfa_field_table(organization_id);
		if (pfa_field_find(fields, column->key, strlen(column->key)) == NULL)
			compute_cost(merged, (PfaPeriod) period, column->key);
	}
}

/* ---- a record ---- */

void
pfa_merge(PfaMerged *merged, const char *organization_id,
		  const JsonbContainer *data, const PfaOverlay *layers, int nlayers)
{
	uint64 touched = 0;

	merged->items = palloc(sizeof(PfaJsonbItem) *
						   Max(pfa_jsonb_nmembers(data), 1));
	merged->nitems = pfa_jsonb_members(data, merged->items);
	merged->top = NULL;
	for (int i = 0; i < nlayers; i++)
	{
		const JsonbContainer *delta = &layers[i].delta->root;
		PfaJsonbItem *change;
		int n;

		/* PEMS has it, and so has data; it matters where nothing else does. */
		if (layers[i].state == PFA_STATE_SYNCED)
		{
			if (merged->top == NULL || merged->top->state == PFA_STATE_SYNCED)
				merged->top = &layers[i];
			continue;
		}
		change = palloc(sizeof(PfaJsonbItem) *
						Max(pfa_jsonb_nmembers(delta), 1));
		n = pfa_jsonb_members(delta, change);
		for (int j = 0; j < n; j++)
			set_item(merged, &change[j]);
		pfree(change);
		merged->top = &layers[i];
		touched |= layers[i].touched;
	}
	if (touched != 0)
		compute_costs(merged, organization_id, touched);
}

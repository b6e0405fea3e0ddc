/*
 * document.c
 *	  The document of pfa_stats(): an organization as its caller sees it.
 *
 * The mirror's part comes from the live KPI.  What the caller sees otherwise,
 * his drafts for instance, is added from the records concerned alone: each is
 * taken away as the mirror has it and added as the caller has it.
 *
 * Totals and breakdowns are over records that are not discontinued, as those
 * of pfa_kpi_stats() are; counts say how many there are of each state.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "catalog/overlay.h"
#include "kpi/drafts.h"
#include "kpi/stats.h"

static void
add_drafts(PfaKpiSet *set, const char *organization_id, const char *user_id,
		   int64 *states)
{
	PfaKpiSet *records = pfa_kpi_set_create();
	PfaKpiSet *facets;

	pfa_kpi_drafts(records, organization_id, user_id, states);
	facets = pfa_kpi_set_expand(records);
	for (int i = 0; i < facets->ngroups; i++)
		pfa_kpi_group_add(set, pfa_kpi_set_enter(set, &facets->groups[i]->key),
						  facets->groups[i]);
	pfa_kpi_set_free(facets);
	pfa_kpi_set_free(records);
}

/* ---- grouping further ---- */

/* Groups of the facet by fewer columns: the others are cleared by reduce. */
static PfaKpiSet *
regroup(const PfaKpiSet *set, PfaKpiFacet facet, void (*reduce)(PfaKpiKey *key))
{
	PfaKpiSet *result = pfa_kpi_set_create();

	for (int i = 0; i < set->ngroups; i++)
	{
		PfaKpiKey key = set->groups[i]->key;

		if (key.facet != facet)
			continue;
		reduce(&key);
		pfa_kpi_group_add(result, pfa_kpi_set_enter(result, &key),
						  set->groups[i]);
	}
	return result;
}

static void
reduce_to_nothing(PfaKpiKey *key)
{
	key->dor.ptr = NULL;
}

static void
reduce_to_category(PfaKpiKey *key)
{
	key->source.ptr = NULL;
}

static void
reduce_to_source(PfaKpiKey *key)
{
	key->category.ptr = NULL;
}

static void
reduce_to_dor(PfaKpiKey *key)
{
}

/* ---- jsonb ---- */

static void
push_key(JsonbParseState **state, const char *key)
{
	JsonbValue value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, key);
	value.val.string.len = strlen(key);
	(void) pushJsonbValue(state, WJB_KEY, &value);
}

static void
push_text(JsonbParseState **state, const char *key, const PfaKpiText *text)
{
	JsonbValue value;

	push_key(state, key);
	value.type = text->ptr == NULL ? jbvNull : jbvString;
	if (text->ptr != NULL)
	{
		value.val.string.val = unconstify(char *, text->ptr);
		value.val.string.len = text->len;
	}
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

/* NULL: null */
static void
push_number(JsonbParseState **state, const char *key, Numeric number)
{
	JsonbValue value;

	push_key(state, key);
	value.type = number == NULL ? jbvNull : jbvNumeric;
	if (number != NULL)
		value.val.numeric = number;
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

static void
push_count(JsonbParseState **state, const char *key, int64 count)
{
	push_number(state, key, int64_to_numeric(count));
}

static Numeric
total_of(const PfaKpiSum *sum)
{
	Numeric total;

	return pfa_kpi_sum_total(sum, &total) ? total : NULL;
}

static Numeric
difference(Numeric a, Numeric b)
{
	if (a == NULL || b == NULL)
		return NULL;
	return DatumGetNumeric(DirectFunctionCall2(numeric_sub, NumericGetDatum(a),
											   NumericGetDatum(b)));
}

static Numeric
average_of(const PfaKpiSum *sum)
{
	Numeric total = total_of(sum);
	Numeric count = int64_to_numeric(pfa_kpi_sum_count(sum));

	if (total == NULL)
		return NULL;
	return DatumGetNumeric(DirectFunctionCall2(numeric_div,
											   NumericGetDatum(total),
											   NumericGetDatum(count)));
}

static void
push_sums(JsonbParseState **state, const PfaKpiGroup *group)
{
	const PfaKpiSum *sums = group->sums;

	push_count(state, "recordCount", group->records);
	push_number(state, "planCost", total_of(&sums[PFA_KPI_PLAN_COST]));
	push_number(state, "forecastCost", total_of(&sums[PFA_KPI_FORECAST_COST]));
	push_number(state, "actualCost", total_of(&sums[PFA_KPI_ACTUAL_COST]));
	push_number(state, "avgMonthlyRate",
				average_of(&sums[PFA_KPI_MONTHLY_RATE]));
}

static void
push_variances(JsonbParseState **state, const char *forecast,
			   const char *actual, const PfaKpiGroup *group)
{
	Numeric plan = total_of(&group->sums[PFA_KPI_PLAN_COST]);

	push_number(state, forecast,
				difference(total_of(&group->sums[PFA_KPI_FORECAST_COST]),
						   plan));
	push_number(state, actual,
				difference(total_of(&group->sums[PFA_KPI_ACTUAL_COST]), plan));
}

/* ---- parts of the document ---- */

static void
push_totals(JsonbParseState **state, const PfaKpiSet *set)
{
	PfaKpiSet *totals = regroup(set, PFA_KPI_DOR, reduce_to_nothing);
	PfaKpiKey key = {.facet = PFA_KPI_DOR};
	PfaKpiGroup *group;

	/* Without any record there is a group all the same. */
	key.is_actualized = PFA_KPI_NO_FLAG;
	key.is_discontinued = PFA_KPI_NO_FLAG;
	key.is_funds_transferable = PFA_KPI_NO_FLAG;
	if (totals->ngroups == 0)
		(void) pfa_kpi_set_enter(totals, &key);
	group = totals->groups[0];
	push_key(state, "totals");
	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_sums(state, group);
	(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
	push_key(state, "variances");
	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_variances(state, "forecast", "actual", group);
	(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static void
push_states(JsonbParseState **state, const PfaKpiSet *set)
{
	int64 all = 0;
	int64 discontinued = 0;
	int64 actualized = 0;
	int64 transferable = 0;

	for (int i = 0; i < set->ngroups; i++)
	{
		const PfaKpiGroup *group = set->groups[i];
		const PfaKpiKey *key = &group->key;

		if (key->facet != PFA_KPI_STATE)
			continue;
		all += group->records;
		if (key->is_discontinued == 1)
			discontinued += group->records;
		else
		{
			if (key->is_actualized == 1)
				actualized += group->records;
			if (key->is_funds_transferable == 1)
				transferable += group->records;
		}
	}
	push_key(state, "countsByState");
	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_count(state, "total", all);
	push_count(state, "active", all - discontinued);
	push_count(state, "actualized", actualized);
	push_count(state, "notActualized", all - discontinued - actualized);
	push_count(state, "discontinued", discontinued);
	push_count(state, "fundsTransferable", transferable);
	(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

/* Pristine and synced records are as PEMS has them, and not counted. */
static void
push_sync_states(JsonbParseState **state, const int64 *states)
{
	push_key(state, "countsBySyncState");
	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < PFA_NSTATES; i++)
	{
		if (i != PFA_STATE_PRISTINE && i != PFA_STATE_SYNCED)
			push_count(state, pfa_state_names[i], states[i]);
	}
	(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

/* Of the columns of the key one is set at most. */
static const PfaKpiText *
label_of(const PfaKpiGroup *group)
{
	const PfaKpiKey *key = &group->key;

	return key->category.ptr != NULL ? &key->category :
		key->source.ptr != NULL      ? &key->source :
									   &key->dor;
}

/* Byte order, null last. */
static int
compare_labels(const void *a, const void *b)
{
	const PfaKpiText *x = label_of(*(PfaKpiGroup *const *) a);
	const PfaKpiText *y = label_of(*(PfaKpiGroup *const *) b);
	int order;

	if (x->ptr == NULL || y->ptr == NULL)
		return (x->ptr == NULL) - (y->ptr == NULL);
	order = memcmp(x->ptr, y->ptr, Min(x->len, y->len));
	return order != 0 ? order : x->len - y->len;
}

static void
push_breakdown(JsonbParseState **state, const char *key, const char *label,
			   PfaKpiSet *groups)
{
	qsort(groups->groups, groups->ngroups, sizeof(PfaKpiGroup *),
		  compare_labels);
	push_key(state, key);
	(void) pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < groups->ngroups; i++)
	{
		const PfaKpiGroup *group = groups->groups[i];

		if (group->records == 0)
			continue;
		(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
		push_text(state, label, label_of(group));
		push_sums(state, group);
		push_variances(state, "forecastVariance", "actualVariance", group);
		(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
	}
	(void) pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

Jsonb *
pfa_kpi_document(Oid schema, const char *organization_id, const char *user_id)
{
	PfaKpiSet *set = pfa_kpi_read_set(schema, organization_id, PFA_KPI_STATE);
	JsonbParseState *state = NULL;
	PfaKpiText organization = {organization_id, strlen(organization_id)};
	int64 states[PFA_NSTATES] = {0};
	JsonbValue *document;

	add_drafts(set, organization_id, user_id, states);

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_text(&state, "organizationId", &organization);
	push_totals(&state, set);
	push_states(&state, set);
	push_sync_states(&state, states);
	push_breakdown(&state, "byCategory", "category",
				   regroup(set, PFA_KPI_CATEGORY_SOURCE, reduce_to_category));
	push_breakdown(&state, "bySource", "source",
				   regroup(set, PFA_KPI_CATEGORY_SOURCE, reduce_to_source));
	push_breakdown(&state, "byDor", "dor",
				   regroup(set, PFA_KPI_DOR, reduce_to_dor));
	document = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(document);
}

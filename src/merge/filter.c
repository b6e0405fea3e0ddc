/*
 * filter.c
 *	  Filters of pfa_get.
 *
 * There is one evaluator, for rows of the mirror as for records with drafts
 * over them, so the two cannot come to differ.  It works on the typed columns;
 * only the search text looks into data.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/formatting.h"

#include "merge/filter.h"

#define MAX_VALUES 1000
#define MAX_SEARCH 1000

typedef enum FilterType
{
	FILTER_TEXT, /* a string, or an array of them */
	FILTER_BOOLEAN,
	FILTER_FROM, /* a date */
	FILTER_TO,
	FILTER_STATE,
	FILTER_SEARCH
} FilterType;

/* Filters in the order in which errors list them, and the keys they are of. */
static const struct
{
	const char *name;
	FilterType type;
	const char *key;
} known_filters[] = {
	{"category", FILTER_TEXT, "category"},
	{"class", FILTER_TEXT, "class"},
	{"dor", FILTER_TEXT, "dor"},
	{"source", FILTER_TEXT, "source"},
	{"areaSilo", FILTER_TEXT, "areaSilo"},
	{"manufacturer", FILTER_TEXT, "manufacturer"},
	{"model", FILTER_TEXT, "model"},
	{"syncState", FILTER_STATE, NULL},
	{"forecastFrom", FILTER_FROM, "forecastStart"},
	{"forecastTo", FILTER_TO, "forecastEnd"},
	{"isActualized", FILTER_BOOLEAN, "isActualized"},
	{"isDiscontinued", FILTER_BOOLEAN, "isDiscontinued"},
	{"isFundsTransferable", FILTER_BOOLEAN, "isFundsTransferable"},
	{"searchText", FILTER_SEARCH, NULL},
};

/* ---- parsing ---- */

static void
report_value(const char *name, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("filter \"%s\" must be %s", name, wanted)));
}

static void
report_unknown(const PfaJsonbItem *item)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < lengthof(known_filters); i++)
		appendStringInfo(&names, "%s%s", i == 0 ? "" : ", ",
						 known_filters[i].name);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown filter \"%s\"",
					pnstrdup(item->key, item->key_len)),
			 errdetail("Filters are: %s.", names.data),
			 errhint("Names are case-sensitive.")));
}

/* The strings of a value or an array of values. */
static JsonbValue *
get_strings(const char *name, const char *wanted, const PfaJsonbItem *item,
			int *n)
{
	const JsonbContainer *container = (const JsonbContainer *) item->value;
	JsonbValue *strings;

	if (item->type != JENTRY_ISCONTAINER)
	{
		*n = 1;
		strings = palloc(sizeof(JsonbValue));
		pfa_jsonb_get_value(item, strings);
	}
	else
	{
		if (!(container->header & JB_FARRAY))
			report_value(name, wanted);
		*n = container->header & JB_CMASK;
		if (*n == 0 || *n > MAX_VALUES)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("filter \"%s\" must have 1 to %d values", name,
							MAX_VALUES),
					 errdetail("It has %d.", *n)));
		strings = palloc(sizeof(JsonbValue) * *n);
		for (int i = 0; i < *n; i++)
			strings[i] =
				*getIthJsonbValueFromContainer(unconstify(JsonbContainer *,
														  container),
											   i);
	}
	for (int i = 0; i < *n; i++)
	{
		if (strings[i].type != jbvString)
			report_value(name, wanted);
	}
	return strings;
}

static PfaCondition *
add_condition(PfaFilter *filter, const char *key, PfaFilterOp op, int nvalues)
{
	PfaCondition *condition = &filter->conditions[filter->nconditions++];

	Assert(filter->nconditions <= PFA_MAX_CONDITIONS);
	condition->column = pfa_mirror_column(key, strlen(key));
	condition->op = op;
	condition->nvalues = nvalues;
	condition->values = palloc(sizeof(Datum) * nvalues);
	filter->columns |= PFA_TOUCHED_COLUMN(
		pfa_mirror_column_number(condition->column));
	return condition;
}

static void
parse_text(PfaFilter *filter, const char *name, const char *key,
		   const PfaJsonbItem *item)
{
	int n;
	JsonbValue *strings = get_strings(name, "a string or an array of strings",
									  item, &n);
	PfaCondition *condition = add_condition(filter, key, PFA_FILTER_EQ, n);

	condition->texts = palloc(sizeof(uint64) * n);
	for (int i = 0; i < n; i++)
	{
		condition->values[i] = PointerGetDatum(
			cstring_to_text_with_len(strings[i].val.string.val,
									 strings[i].val.string.len));
		condition->texts[i] = pfa_mirror_text_bits(condition->column,
												   condition->values[i]);
	}
}

static void
parse_boolean(PfaFilter *filter, const char *name, const char *key,
			  const PfaJsonbItem *item)
{
	if (item->type != JENTRY_ISBOOL_TRUE && item->type != JENTRY_ISBOOL_FALSE)
		report_value(name, "true or false");
	add_condition(filter, key, PFA_FILTER_EQ, 1)->values[0] = BoolGetDatum(
		item->type == JENTRY_ISBOOL_TRUE);
}

static void
parse_date(PfaFilter *filter, const char *name, const char *key, PfaFilterOp op,
		   const PfaJsonbItem *item)
{
	int32 days;

	if (item->type != JENTRY_ISSTRING ||
		!pfa_mirror_parse_date(item->value, item->len, &days))
		report_value(name, "a date, a string of the form \"YYYY-MM-DD\"");
	add_condition(filter, key, op, 1)->values[0] = DateADTGetDatum(days);
}

static void
parse_state(PfaFilter *filter, const char *name, const PfaJsonbItem *item)
{
	static const char *const wanted =
		"one or several of pristine, modified, pending_sync, syncing, synced, conflict, error";
	int n;
	JsonbValue *strings = get_strings(name, wanted, item, &n);

	for (int i = 0; i < n; i++)
	{
		int state;

		for (state = 0; state < PFA_NSTATES; state++)
		{
			if (strlen(pfa_state_names[state]) == strings[i].val.string.len &&
				memcmp(pfa_state_names[state], strings[i].val.string.val,
					   strings[i].val.string.len) == 0)
				break;
		}
		if (state == PFA_NSTATES)
			report_value(name, wanted);
		filter->states |= 1u << state;
	}
	filter->columns |= PFA_TOUCHED_ANY;
}

static bool
is_ascii(const char *text, uint32 len)
{
	for (uint32 i = 0; i < len; i++)
	{
		if (IS_HIGHBIT_SET(text[i]))
			return false;
	}
	return true;
}

/* Between ASCII texts the locale has no say: in Turkish, I is not i. */
static void
set_search_ascii(PfaFilter *filter, const PfaJsonbItem *item)
{
	bool ascii = is_ascii(item->value, item->len);

	filter->search_ascii = ascii ? asc_tolower(item->value, item->len) :
								   filter->search;
	filter->search_ascii_len = ascii ? item->len : filter->search_len;
}

static void
parse_search(PfaFilter *filter, const char *name, const PfaJsonbItem *item)
{
	if (item->type != JENTRY_ISSTRING || item->len > MAX_SEARCH)
		report_value(name,
					 psprintf("a string of at most %d bytes", MAX_SEARCH));
	if (item->len == 0)
		return; /* part of any text */
	filter->search = str_tolower(item->value, item->len, DEFAULT_COLLATION_OID);
	filter->search_len = strlen(filter->search);
	set_search_ascii(filter, item);
	filter->columns |= PFA_TOUCHED_ANY;
}

static void
parse_filter(PfaFilter *filter, const PfaJsonbItem *item)
{
	int i;

	for (i = 0; i < lengthof(known_filters); i++)
	{
		if (strlen(known_filters[i].name) == item->key_len &&
			memcmp(known_filters[i].name, item->key, item->key_len) == 0)
			break;
	}
	if (i == lengthof(known_filters))
		report_unknown(item);
	switch (known_filters[i].type)
	{
		case FILTER_TEXT:
			parse_text(filter, known_filters[i].name, known_filters[i].key,
					   item);
			break;
		case FILTER_BOOLEAN:
			parse_boolean(filter, known_filters[i].name, known_filters[i].key,
						  item);
			break;
		case FILTER_FROM:
			parse_date(filter, known_filters[i].name, known_filters[i].key,
					   PFA_FILTER_GE, item);
			break;
		case FILTER_TO:
			parse_date(filter, known_filters[i].name, known_filters[i].key,
					   PFA_FILTER_LE, item);
			break;
		case FILTER_STATE:
			parse_state(filter, known_filters[i].name, item);
			break;
		case FILTER_SEARCH:
			parse_search(filter, known_filters[i].name, item);
			break;
	}
}

void
pfa_filter_parse(PfaFilter *filter, Jsonb *filters)
{
	PfaJsonbItem *items;
	int n;

	memset(filter, 0, sizeof(*filter));
	if (!JB_ROOT_IS_OBJECT(filters))
		ereport(
			ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("filters must be a JSON object"),
			 errhint(
				 "For example '{\"category\": \"Cranes\"}'; '{}' is all records.")));
	items = palloc(sizeof(PfaJsonbItem) * Max(JB_ROOT_COUNT(filters), 1));
	n = pfa_jsonb_members(&filters->root, items);
	for (int i = 0; i < n; i++)
		parse_filter(filter, &items[i]);
}

/* ---- applying ---- */

static bool
same_text(Datum a, Datum b)
{
	text *x = DatumGetTextPP(a);
	text *y = DatumGetTextPP(b);

	return VARSIZE_ANY_EXHDR(x) == VARSIZE_ANY_EXHDR(y) &&
		memcmp(VARDATA_ANY(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(x)) == 0;
}

bool
pfa_condition_matches(const PfaCondition *condition, Datum value, bool isnull)
{
	if (isnull)
		return false;
	switch (condition->op)
	{
		case PFA_FILTER_GE:
			return DatumGetDateADT(value) >=
				DatumGetDateADT(condition->values[0]);
		case PFA_FILTER_LE:
			return DatumGetDateADT(value) <=
				DatumGetDateADT(condition->values[0]);
		case PFA_FILTER_EQ:
			break;
	}
	if (condition->column->kind == PFA_KIND_BOOLEAN)
		return DatumGetBool(value) == DatumGetBool(condition->values[0]);
	for (int i = 0; i < condition->nvalues; i++)
	{
		if (same_text(condition->values[i], value))
			return true;
	}
	return false;
}

/* ---- searching ---- */

/* Whether needle, in lower case, is in text; fold lowers ASCII letters. */
static bool
contains(const char *text, uint32 len, const char *needle, uint32 needle_len,
		 bool fold)
{
	for (uint32 start = 0; start + needle_len <= len; start++)
	{
		uint32 i = 0;

		while (i < needle_len &&
			   (fold ?
					(char) pg_ascii_tolower((unsigned char) text[start + i]) :
					text[start + i]) == needle[i])
			i++;
		if (i == needle_len)
			return true;
	}
	return false;
}

static bool
search_text(const PfaFilter *filter, const char *text, uint32 len)
{
	char *lower;
	bool found;

	if (is_ascii(text, len))
		return contains(text, len, filter->search_ascii,
						filter->search_ascii_len, true);
	lower = str_tolower(text, len, DEFAULT_COLLATION_OID);
	found = contains(lower, strlen(lower), filter->search, filter->search_len,
					 false);
	pfree(lower);
	return found;
}

bool
pfa_filter_search_items(const PfaFilter *filter, const PfaJsonbItem *items,
						int n)
{
	if (filter->search == NULL)
		return true;
	for (int i = 0; i < n; i++)
	{
		if (items[i].type == JENTRY_ISSTRING &&
			search_text(filter, items[i].value, items[i].len))
			return true;
	}
	return false;
}

bool
pfa_filter_search(const PfaFilter *filter, const JsonbContainer *data)
{
	PfaJsonbItem *items;
	int n;
	bool found;

	if (filter->search == NULL)
		return true;
	items = palloc(sizeof(PfaJsonbItem) * Max(pfa_jsonb_nmembers(data), 1));
	n = pfa_jsonb_members(data, items);
	found = pfa_filter_search_items(filter, items, n);
	pfree(items);
	return found;
}

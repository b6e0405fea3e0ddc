/*
 * mirror_derive.c
 *	  The columns of pfa_mirror that repeat keys of data.
 *
 * Syncs fill the columns from decoded records (record_jsonb.c); writes by
 * plain SQL go through the trigger, which reads data with the functions here.
 * One table of columns serves both.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "datatype/timestamp.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "catalog/cost.h"
#include "catalog/jsonb_items.h"
#include "catalog/mirror.h"

static const PfaMirrorColumn columns[] = {
	{"category", PFA_MIRROR_CATEGORY, PFA_KIND_TEXT},
	{"class", PFA_MIRROR_CLASS, PFA_KIND_TEXT},
	{"source", PFA_MIRROR_SOURCE, PFA_KIND_TEXT},
	{"dor", PFA_MIRROR_DOR, PFA_KIND_TEXT},
	{"areaSilo", PFA_MIRROR_AREA_SILO, PFA_KIND_TEXT},
	{"manufacturer", PFA_MIRROR_MANUFACTURER, PFA_KIND_TEXT},
	{"model", PFA_MIRROR_MODEL, PFA_KIND_TEXT},
	{"pemsVersion", PFA_MIRROR_PEMS_VERSION, PFA_KIND_TEXT},
	{"monthlyRate", PFA_MIRROR_MONTHLY_RATE, PFA_KIND_NUMBER},
	{"purchasePrice", PFA_MIRROR_PURCHASE_PRICE, PFA_KIND_NUMBER},
	{"planCost", PFA_MIRROR_PLAN_COST, PFA_KIND_NUMBER},
	{"forecastCost", PFA_MIRROR_FORECAST_COST, PFA_KIND_NUMBER},
	{"actualCost", PFA_MIRROR_ACTUAL_COST, PFA_KIND_NUMBER},
	{"originalStart", PFA_MIRROR_ORIGINAL_START, PFA_KIND_DATE},
	{"originalEnd", PFA_MIRROR_ORIGINAL_END, PFA_KIND_DATE},
	{"forecastStart", PFA_MIRROR_FORECAST_START, PFA_KIND_DATE},
	{"forecastEnd", PFA_MIRROR_FORECAST_END, PFA_KIND_DATE},
	{"actualStart", PFA_MIRROR_ACTUAL_START, PFA_KIND_DATE},
	{"actualEnd", PFA_MIRROR_ACTUAL_END, PFA_KIND_DATE},
	{"isActualized", PFA_MIRROR_IS_ACTUALIZED, PFA_KIND_BOOLEAN},
	{"isDiscontinued", PFA_MIRROR_IS_DISCONTINUED, PFA_KIND_BOOLEAN},
	{"isFundsTransferable", PFA_MIRROR_IS_FUNDS_TRANSFERABLE, PFA_KIND_BOOLEAN},
};

StaticAssertDecl(lengthof(columns) <= 30,
				 "masks have room for 30 columns above those of texts");

/* Keys that costs are computed from, and the costs of which periods. */
#define PLAN     1
#define FORECAST 2
#define ACTUAL   4

static const struct
{
	const char *key;
	int periods;
} cost_keys[] = {
	{"source", PLAN | FORECAST | ACTUAL},
	{"monthlyRate", PLAN | FORECAST | ACTUAL},
	{"purchasePrice", PLAN | FORECAST | ACTUAL},
	{"originalStart", PLAN},
	{"originalEnd", PLAN},
	{"forecastStart", FORECAST},
	{"forecastEnd", FORECAST},
	{"actualStart", ACTUAL},
	{"actualEnd", ACTUAL},
	{"isActualized", ACTUAL},
};

const PfaMirrorColumn *
pfa_mirror_columns(int *ncolumns)
{
	*ncolumns = lengthof(columns);
	return columns;
}

int
pfa_mirror_column_number(const PfaMirrorColumn *column)
{
	return (int) (column - columns);
}

const PfaMirrorColumn *
pfa_mirror_cost_column(int period)
{
	static const char *const keys[] = {"planCost", "forecastCost",
									   "actualCost"};

	return pfa_mirror_column(keys[period], strlen(keys[period]));
}

const PfaMirrorColumn *
pfa_mirror_column(const char *key, size_t len)
{
	for (size_t i = 0; i < lengthof(columns); i++)
	{
		if (strlen(columns[i].key) == len &&
			memcmp(columns[i].key, key, len) == 0)
			return &columns[i];
	}
	return NULL;
}

void
pfa_mirror_blank(Datum *values, bool *nulls)
{
	for (int i = 0; i < PFA_MIRROR_NATTS; i++)
	{
		values[i] = (Datum) 0;
		nulls[i] = i >= PFA_MIRROR_FIRST_DERIVED - 1;
	}
	for (size_t i = 0; i < lengthof(columns); i++)
	{
		if (columns[i].kind == PFA_KIND_BOOLEAN)
		{
			values[columns[i].attno - 1] = BoolGetDatum(false);
			nulls[columns[i].attno - 1] = false;
		}
	}
}

/* Value of n digits, or -1. */
static int
parse_digits(const char *text, int n)
{
	int value = 0;

	for (int i = 0; i < n; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return -1;
		value = value * 10 + (text[i] - '0');
	}
	return value;
}

bool
pfa_mirror_parse_date(const char *text, size_t len, int32 *days)
{
	int year;
	int month;
	int day;

	if (len != 10 || text[4] != '-' || text[7] != '-')
		return false;
	year = parse_digits(text, 4);
	month = parse_digits(text + 5, 2);
	day = parse_digits(text + 8, 2);
	if (year < 1 || month < 1 || month > 12 || day < 1 ||
		day > day_tab[isleap(year)][month - 1])
		return false;
	*days = date2j(year, month, day) - POSTGRES_EPOCH_JDATE;
	return true;
}

static uint64
cost_columns(const char *key, size_t len)
{
	uint64 touched = 0;

	for (size_t i = 0; i < lengthof(cost_keys); i++)
	{
		if (strlen(cost_keys[i].key) != len ||
			memcmp(cost_keys[i].key, key, len) != 0)
			continue;
		for (int period = 0; period < PFA_NPERIODS; period++)
		{
			if (cost_keys[i].periods & (1 << period))
				touched |= PFA_TOUCHED_COLUMN(
					pfa_mirror_column_number(pfa_mirror_cost_column(period)));
		}
	}
	return touched;
}

/* By the server's hash function, which hash indexes keep from changing. */
uint64
pfa_mirror_text_bits(const PfaMirrorColumn *column, Datum text)
{
	struct varlena *value = PG_DETOAST_DATUM_PACKED(text);
	uint64 hash = hash_bytes_extended((unsigned char *) VARDATA_ANY(value),
									  VARSIZE_ANY_EXHDR(value),
									  pfa_mirror_column_number(column));

	return UINT64CONST(1) << (hash & 31) | UINT64CONST(1) << (hash >> 59);
}

static uint64
text_bits(const PfaMirrorColumn *column, const PfaJsonbItem *item)
{
	JsonbValue value;
	Datum text;
	bool isnull;

	if (column->kind != PFA_KIND_TEXT)
		return 0;
	pfa_jsonb_get_value(item, &value);
	text = pfa_mirror_derive_column(column, &value, &isnull);
	return isnull ? 0 : pfa_mirror_text_bits(column, text);
}

uint64
pfa_mirror_touched(const JsonbContainer *delta)
{
	int n = pfa_jsonb_nmembers(delta);
	PfaJsonbItem *items = palloc(sizeof(PfaJsonbItem) * Max(n, 1));
	uint64 touched = PFA_TOUCHED_ANY;

	n = pfa_jsonb_members(delta, items);
	for (int i = 0; i < n; i++)
	{
		const PfaMirrorColumn *column = pfa_mirror_column(items[i].key,
														  items[i].key_len);

		if (column != NULL)
			touched |= PFA_TOUCHED_COLUMN(pfa_mirror_column_number(column)) |
				text_bits(column, &items[i]);
		touched |= cost_columns(items[i].key, items[i].key_len);
	}
	pfree(items);
	return touched;
}

static const char *
type_name(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return "a string";
		case jbvNumeric:
			return "a number";
		case jbvBool:
			return "a boolean";
		case jbvBinary:
			return value->val.binary.data->header & JB_FARRAY ? "an array" :
																"an object";
		default:
			return "a value";
	}
}

static void
report_misfit(const PfaMirrorColumn *column, const JsonbValue *value)
{
	static const char *const wanted[] =
		{[PFA_KIND_TEXT] = "a string, number or boolean",
		 [PFA_KIND_NUMBER] = "a number",
		 [PFA_KIND_DATE] = "a string of the form YYYY-MM-DD",
		 [PFA_KIND_BOOLEAN] = "a boolean"};

	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("key \"%s\" of data must be %s or null", column->key,
					wanted[column->kind]),
			 errdetail("It is %s.", type_name(value))));
}

/* A text column holds the text of any scalar. */
static bool
derive_text(const JsonbValue *value, Datum *datum)
{
	const char *text;

	switch (value->type)
	{
		case jbvString:
			*datum = PointerGetDatum(
				cstring_to_text_with_len(value->val.string.val,
										 value->val.string.len));
			return true;
		case jbvNumeric:
			text = DatumGetCString(
				DirectFunctionCall1(numeric_out,
									NumericGetDatum(value->val.numeric)));
			break;
		case jbvBool:
			text = value->val.boolean ? "true" : "false";
			break;
		default:
			return false;
	}
	*datum = CStringGetTextDatum(text);
	return true;
}

static bool
derive_value(const PfaMirrorColumn *column, const JsonbValue *value,
			 Datum *datum)
{
	int32 days;

	switch (column->kind)
	{
		case PFA_KIND_TEXT:
			return derive_text(value, datum);
		case PFA_KIND_NUMBER:
			if (value->type != jbvNumeric)
				return false;
			*datum = NumericGetDatum(value->val.numeric);
			return true;
		case PFA_KIND_DATE:
			if (value->type != jbvString ||
				!pfa_mirror_parse_date(value->val.string.val,
									   value->val.string.len, &days))
				return false;
			*datum = DateADTGetDatum(days);
			return true;
		case PFA_KIND_BOOLEAN:
			if (value->type != jbvBool)
				return false;
			*datum = BoolGetDatum(value->val.boolean);
			return true;
	}
	return false;
}

Datum
pfa_mirror_derive_column(const PfaMirrorColumn *column, const JsonbValue *value,
						 bool *isnull)
{
	Datum datum;

	*isnull = false;
	if (value != NULL && derive_value(column, value, &datum))
		return datum;
	*isnull = column->kind != PFA_KIND_BOOLEAN;
	return BoolGetDatum(false);
}

void
pfa_mirror_derive_columns(Jsonb *data, bool strict, Datum *values, bool *nulls)
{
	Datum blank_values[PFA_MIRROR_NATTS];
	bool blank_nulls[PFA_MIRROR_NATTS];

	pfa_mirror_blank(blank_values, blank_nulls);
	for (size_t i = 0; i < lengthof(columns); i++)
	{
		const PfaMirrorColumn *column = &columns[i];
		int at = column->attno - 1;
		JsonbValue buffer;
		JsonbValue *value;

		values[at] = blank_values[at];
		nulls[at] = blank_nulls[at];
		value = getKeyJsonValueFromContainer(&data->root, column->key,
											 strlen(column->key), &buffer);
		if (value == NULL || value->type == jbvNull)
			continue;
		if (derive_value(column, value, &values[at]))
			nulls[at] = false;
		else if (strict || value->type == jbvBinary)
			report_misfit(column, value);
	}
}

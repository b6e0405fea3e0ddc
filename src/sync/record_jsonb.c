/*
 * record_jsonb.c
 *	  A decoded record to the columns of its row in pfa_mirror.
 *
 * The jsonb is written as it is stored, without a JsonbValue tree: all records
 * of a mapping have the same keys, so the sorted keys and their JEntries are
 * laid out once and copied, and only the values are added.  The typed columns
 * point at the numerics inside the jsonb and at copies of its texts, so a value
 * is encoded once and the columns agree with data by construction.
 *
 * The formats of jsonb and numeric are those on disk, which pg_upgrade keeps
 * stable.  The test suite compares the result with what the server's own
 * functions make of the same values.
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "catalog/cost.h"
#include "catalog/mirror.h"
#include "sync/record_jsonb.h"

#define DATE_BYTES 10

#define CHUNK_BYTES ((size_t) 1024 * 1024)
#define MAX_CHUNKS  64

/* Keys that are no field of the mapping. */
enum
{
	COST_PLAN = -1,
	COST_FORECAST = -2,
	COST_ACTUAL = -3
};

/* Fields that costs are computed from, by index in the mapping or -1. */
typedef struct CostFields
{
	int source;
	int purchase_price;
	int monthly_rate;
	int starts[3]; /* original, forecast, actual */
	int ends[3];
	int is_actualized;
} CostFields;

/* One key of data, in the order of jsonb. */
typedef struct Key
{
	const char *name;
	uint32 len;
	int field; /* index in the mapping, or COST_* */
	PfaKind kind;
	const PfaMirrorColumn *column; /* or NULL */
} Key;

struct PfaRowBuilder
{
	MemoryContext ctx;
	const PfaMapping *mapping;
	Datum organization;
	CostFields cost;
	int category; /* index in the mapping of indexed texts */
	int source;

	Key *sorted;
	uint32 nsorted;
	char *head; /* container header and key JEntries */
	uint32 head_bytes;
	char *keys; /* key bytes, as they follow the JEntries */
	uint32 keys_bytes;
	uint32 fixed_bytes; /* of any record, without texts */

	Datum blank_values[PFA_MIRROR_NATTS];
	bool blank_nulls[PFA_MIRROR_NATTS];

	char *chunks[MAX_CHUNKS]; /* the first one is kept */
	int nchunks;
	char *free;
	size_t nfree;
	size_t used;
};

/* ---- once a mapping ---- */

static int
compare_keys(const void *a, const void *b)
{
	const Key *x = a;
	const Key *y = b;

	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return memcmp(x->name, y->name, x->len);
}

static int
find_field(const PfaMapping *mapping, const char *key, PfaKind kind)
{
	for (int i = 0; i < mapping->nfields; i++)
	{
		if (strcmp(mapping->fields[i].key, key) == 0)
			return mapping->fields[i].kind == kind ? i : -1;
	}
	return -1;
}

static void
find_cost_fields(const PfaMapping *mapping, CostFields *cost)
{
	cost->source = find_field(mapping, "source", PFA_KIND_TEXT);
	cost->purchase_price = find_field(mapping, "purchasePrice",
									  PFA_KIND_NUMBER);
	cost->monthly_rate = find_field(mapping, "monthlyRate", PFA_KIND_NUMBER);
	cost->starts[0] = find_field(mapping, "originalStart", PFA_KIND_DATE);
	cost->ends[0] = find_field(mapping, "originalEnd", PFA_KIND_DATE);
	cost->starts[1] = find_field(mapping, "forecastStart", PFA_KIND_DATE);
	cost->ends[1] = find_field(mapping, "forecastEnd", PFA_KIND_DATE);
	cost->starts[2] = find_field(mapping, "actualStart", PFA_KIND_DATE);
	cost->ends[2] = find_field(mapping, "actualEnd", PFA_KIND_DATE);
	cost->is_actualized = find_field(mapping, "isActualized", PFA_KIND_BOOLEAN);
}

static void
add_key(PfaRowBuilder *builder, const char *name, int field, PfaKind kind)
{
	Key *key;

	for (uint32 i = 0; i < builder->nsorted; i++)
	{
		if (strcmp(builder->sorted[i].name, name) == 0)
			return;
	}
	key = &builder->sorted[builder->nsorted++];
	key->name = name;
	key->len = strlen(name);
	key->field = field;
	key->kind = kind;
	key->column = pfa_mirror_column(name, key->len);
}

/* JEntry of the i-th child of a container, whose bytes end at offset end. */
static inline JEntry
make_jentry(uint32 type, uint32 i, uint32 len, uint32 end)
{
	if (i % JB_OFFSET_STRIDE == 0)
		return type | JENTRY_HAS_OFF | end;
	return type | len;
}

static void
lay_out_keys(PfaRowBuilder *builder)
{
	uint32 n = builder->nsorted;
	uint32 *head;
	uint32 end = 0;

	builder->head_bytes = sizeof(uint32) * (1 + n);
	builder->head = palloc(builder->head_bytes);
	head = (uint32 *) builder->head;
	head[0] = n | JB_FOBJECT;
	for (uint32 i = 0; i < n; i++)
	{
		end += builder->sorted[i].len;
		head[1 + i] = make_jentry(JENTRY_ISSTRING, i, builder->sorted[i].len,
								  end);
	}
	builder->keys_bytes = end;
	builder->keys = palloc(Max(end, 1));
	end = 0;
	for (uint32 i = 0; i < n; i++)
	{
		memcpy(builder->keys + end, builder->sorted[i].name,
			   builder->sorted[i].len);
		end += builder->sorted[i].len;
	}

	/*
	 * Bytes of a record without its texts: the JEntries, any value that is no
	 * text, and the headers of the texts' copies for columns.
	 */
	builder->fixed_bytes = VARHDRSZ + builder->head_bytes + n * sizeof(JEntry) +
		builder->keys_bytes +
		n * (PFA_NUMERIC_BYTES + VARHDRSZ + sizeof(int32)) + MAXIMUM_ALIGNOF;
}

PfaRowBuilder *
pfa_row_builder_create(MemoryContext ctx, const char *organization_id,
					   const PfaMapping *mapping)
{
	MemoryContext caller = MemoryContextSwitchTo(ctx);
	PfaRowBuilder *builder = palloc0(sizeof(PfaRowBuilder));

	builder->ctx = ctx;
	builder->mapping = mapping;
	builder->organization = CStringGetTextDatum(organization_id);
	find_cost_fields(mapping, &builder->cost);
	builder->category = find_field(mapping, "category", PFA_KIND_TEXT);
	builder->source = find_field(mapping, "source", PFA_KIND_TEXT);

	builder->sorted = palloc0(sizeof(Key) * (mapping->nfields + 3));
	for (int i = 0; i < mapping->nfields; i++)
		add_key(builder, mapping->fields[i].key, i, mapping->fields[i].kind);
	add_key(builder, "planCost", COST_PLAN, PFA_KIND_NUMBER);
	add_key(builder, "forecastCost", COST_FORECAST, PFA_KIND_NUMBER);
	add_key(builder, "actualCost", COST_ACTUAL, PFA_KIND_NUMBER);
	qsort(builder->sorted, builder->nsorted, sizeof(Key), compare_keys);
	lay_out_keys(builder);

	pfa_mirror_blank(builder->blank_values, builder->blank_nulls);
	builder->chunks[0] = palloc(CHUNK_BYTES);
	pfa_row_builder_reset(builder);
	MemoryContextSwitchTo(caller);
	return builder;
}

void
pfa_row_builder_reset(PfaRowBuilder *builder)
{
	while (builder->nchunks > 1)
		pfree(builder->chunks[--builder->nchunks]);
	builder->nchunks = 1;
	builder->free = builder->chunks[0];
	builder->nfree = CHUNK_BYTES;
	builder->used = 0;
}

size_t
pfa_row_builder_bytes(const PfaRowBuilder *builder)
{
	return builder->used;
}

/* Have size bytes ready at builder->free. */
static void
reserve(PfaRowBuilder *builder, size_t size)
{
	if (likely(size <= builder->nfree))
		return;
	if (builder->nchunks == MAX_CHUNKS)
		elog(ERROR, "too many rows built without a reset");
	builder->nfree = Max(size, CHUNK_BYTES);
	builder->free = MemoryContextAllocHuge(builder->ctx, builder->nfree);
	builder->chunks[builder->nchunks++] = builder->free;
}

static inline void
consume(PfaRowBuilder *builder, size_t size)
{
	size = MAXALIGN(size);
	size = Min(size, builder->nfree);
	builder->free += size;
	builder->nfree -= size;
	builder->used += size;
}

/* ---- values ---- */

static inline void
write_digits(char *out, int value, int ndigits)
{
	while (ndigits > 0)
	{
		out[--ndigits] = '0' + value % 10;
		value /= 10;
	}
}

static void
write_date(char *out, int32 days)
{
	int year;
	int month;
	int day;

	j2date(days + POSTGRES_EPOCH_JDATE, &year, &month, &day);
	if (year < 1 || year > 9999)
		ereport(
			ERROR,
			(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
			 errmsg("date out of range: the year must be between 1 and 9999")));
	write_digits(out, year, 4);
	out[4] = '-';
	write_digits(out + 5, month, 2);
	out[7] = '-';
	write_digits(out + 8, day, 2);
}

/* ---- costs ---- */

static inline const PfaValue *
field_value(const PfaRecord *record, int field)
{
	if (field < 0 || record->values[field].isnull)
		return NULL;
	return &record->values[field];
}

static PfaCostResult
compute_cost(const CostFields *cost, const PfaRecord *record, int period,
			 int64 *cents, Numeric *large)
{
	const PfaValue *actualized = field_value(record, cost->is_actualized);
	PfaCostTerms terms;

	terms.actualized = actualized != NULL && actualized->boolean;
	terms.source = field_value(record, cost->source);
	terms.purchase_price = field_value(record, cost->purchase_price);
	terms.monthly_rate = field_value(record, cost->monthly_rate);
	terms.start = field_value(record, cost->starts[period]);
	terms.end = field_value(record, cost->ends[period]);
	return pfa_cost_compute(&terms, (PfaPeriod) period, cents, large);
}

/* ---- a record ---- */

/* Where a value goes: the jsonb's data area, and the row's columns. */
typedef struct Target
{
	char *base; /* of the data area */
	char *out;
	JEntry *jentries; /* of the values */
	uint32 first;     /* number of the first value among children */
	Datum *values;
	bool *nulls;
} Target;

static inline void
set_column(Target *target, const Key *key, PfaKind kind, Datum value)
{
	if (key->column != NULL && key->column->kind == kind)
	{
		target->values[key->column->attno - 1] = value;
		target->nulls[key->column->attno - 1] = false;
	}
}

static inline void
set_jentry(Target *target, uint32 i, uint32 type, char *start)
{
	target->jentries[i] = make_jentry(type, target->first + i,
									  target->out - start,
									  target->out - target->base);
}

/* Numbers in jsonb are aligned; the padding counts as part of the value. */
static inline void
align_number(Target *target)
{
	while ((target->out - target->base) % sizeof(int32) != 0)
		*target->out++ = '\0';
}

static void
put_numeric(Target *target, uint32 i, const Key *key, Numeric number)
{
	char *start = target->out;
	char *at;

	align_number(target);
	at = target->out;
	memcpy(at, number, VARSIZE_ANY(number));
	target->out += VARSIZE_ANY(number);
	set_jentry(target, i, JENTRY_ISNUMERIC, start);
	set_column(target, key, PFA_KIND_NUMBER, PointerGetDatum(at));
}

static inline void
put_decimal(Target *target, uint32 i, const Key *key, int64 mantissa, int scale,
			int dscale)
{
	char *start = target->out;
	char *at;

	align_number(target);
	at = target->out;
	target->out += pfa_numeric_write(at, mantissa, scale, dscale);
	set_jentry(target, i, JENTRY_ISNUMERIC, start);
	set_column(target, key, PFA_KIND_NUMBER, PointerGetDatum(at));
}

static inline void
put_cost(Target *target, uint32 i, const Key *key, const CostFields *cost,
		 const PfaRecord *record)
{
	int64 cents;
	Numeric large;

	switch (compute_cost(cost, record, COST_PLAN - key->field, &cents, &large))
	{
		case PFA_COST_NONE:
			set_jentry(target, i, JENTRY_ISNULL, target->out);
			break;
		case PFA_COST_CENTS:
			put_decimal(target, i, key, cents, 2, 2);
			break;
		case PFA_COST_LARGE:
			put_numeric(target, i, key, large);
			break;
	}
}

static inline void
put_value(Target *target, uint32 i, const Key *key, const PfaValue *value)
{
	char *start = target->out;
	int32 days;

	if (value->isnull)
	{
		set_jentry(target, i, JENTRY_ISNULL, start);
		return;
	}
	switch (key->kind)
	{
		case PFA_KIND_TEXT:
			memcpy(target->out, value->ptr, value->len);
			target->out += value->len;
			set_jentry(target, i, JENTRY_ISSTRING, start);
			if (key->column != NULL && key->column->kind == PFA_KIND_DATE &&
				pfa_mirror_parse_date(value->ptr, value->len, &days))
				set_column(target, key, PFA_KIND_DATE, DateADTGetDatum(days));
			break;
		case PFA_KIND_NUMBER:
			if (pfa_value_is_odd(value))
				put_numeric(target, i, key, pfa_value_numeric(value));
			else
				put_decimal(target, i, key, value->mantissa, value->scale,
							value->scale);
			break;
		case PFA_KIND_DATE:
			write_date(target->out, value->days);
			target->out += DATE_BYTES;
			set_jentry(target, i, JENTRY_ISSTRING, start);
			set_column(target, key, PFA_KIND_DATE,
					   DateADTGetDatum(value->days));
			break;
		case PFA_KIND_BOOLEAN:
			set_jentry(target, i,
					   value->boolean ? JENTRY_ISBOOL_TRUE :
										JENTRY_ISBOOL_FALSE,
					   start);
			set_column(target, key, PFA_KIND_BOOLEAN,
					   BoolGetDatum(value->boolean));
			break;
	}
}

/* A text value of a row; short ones as they will be stored. */
static inline Datum
write_text(char **out, const char *ptr, uint32 len)
{
	char *at = *out;

	if (len + VARHDRSZ_SHORT <= VARATT_SHORT_MAX)
	{
		SET_VARSIZE_SHORT(at, len + VARHDRSZ_SHORT);
		memcpy(at + VARHDRSZ_SHORT, ptr, len);
		*out = at + VARHDRSZ_SHORT + len;
	}
	else
	{
		at = (char *) INTALIGN((uintptr_t) at);
		SET_VARSIZE(at, len + VARHDRSZ);
		memcpy(at + VARHDRSZ, ptr, len);
		*out = at + VARHDRSZ + len;
	}
	return PointerGetDatum(at);
}

/* A text column whose key has been given another kind. */
static Datum
column_text(char **out, PfaKind kind, const PfaValue *value)
{
	char date[DATE_BYTES];
	char *text;

	switch (kind)
	{
		case PFA_KIND_TEXT:
			break;
		case PFA_KIND_NUMBER:
			text = DatumGetCString(
				DirectFunctionCall1(numeric_out,
									NumericGetDatum(pfa_value_numeric(value))));
			return CStringGetTextDatum(text);
		case PFA_KIND_DATE:
			write_date(date, value->days);
			return write_text(out, date, DATE_BYTES);
		case PFA_KIND_BOOLEAN:
			text = value->boolean ? "true" : "false";
			return write_text(out, text, strlen(text));
	}
	return write_text(out, value->ptr, value->len);
}

/* Bytes that texts and odd numbers need beyond fixed_bytes. */
static size_t
variable_bytes(const PfaRowBuilder *builder, const PfaRecord *record)
{
	size_t bytes = 0;
	int nodd = 0;

	for (uint32 i = 0; i < builder->nsorted; i++)
	{
		const Key *key = &builder->sorted[i];
		const PfaValue *value;

		if (key->field < 0)
			continue;
		value = &record->values[key->field];
		if (value->isnull || key->kind == PFA_KIND_DATE ||
			key->kind == PFA_KIND_BOOLEAN)
			continue;
		if (key->kind == PFA_KIND_NUMBER)
		{
			/* A digit in base 10000 is 2 bytes for 4 characters. */
			if (unlikely(pfa_value_is_odd(value)))
			{
				bytes += value->len + 64 + Max(value->scale, 0);
				nodd++;
			}
		}
		else
			bytes += key->column != NULL ? 2 * value->len : value->len;
	}

	/* Costs that an odd number takes part in are as long as it is. */
	return nodd == 0 ? bytes + 3 * 64 : bytes * 4 + 3 * 64;
}

void
pfa_row_build(PfaRowBuilder *builder, const PfaRecord *record, Datum *values,
			  bool *nulls)
{
	uint32 n = builder->nsorted;
	char *jsonb;
	char *side;
	Target target;

	reserve(builder,
			builder->fixed_bytes + record->id_len + VARHDRSZ +
				variable_bytes(builder, record));
	memcpy(values, builder->blank_values, sizeof(builder->blank_values));
	memcpy(nulls, builder->blank_nulls, sizeof(builder->blank_nulls));

	jsonb = builder->free;
	memcpy(jsonb + VARHDRSZ, builder->head, builder->head_bytes);
	target.jentries = (JEntry *) (jsonb + VARHDRSZ + builder->head_bytes);
	target.base = (char *) (target.jentries + n);
	memcpy(target.base, builder->keys, builder->keys_bytes);
	target.out = target.base + builder->keys_bytes;
	target.first = n;
	target.values = values;
	target.nulls = nulls;
	for (uint32 i = 0; i < n; i++)
	{
		const Key *key = &builder->sorted[i];

		if (key->field < 0)
			put_cost(&target, i, key, &builder->cost, record);
		else
			put_value(&target, i, key, &record->values[key->field]);
	}
	SET_VARSIZE(jsonb, target.out - jsonb);

	side = target.out;
	for (uint32 i = 0; i < n; i++)
	{
		const Key *key = &builder->sorted[i];

		if (key->column != NULL && key->column->kind == PFA_KIND_TEXT &&
			key->field >= 0 && !record->values[key->field].isnull)
			set_column(&target, key, PFA_KIND_TEXT,
					   column_text(&side, key->kind,
								   &record->values[key->field]));
	}
	values[PFA_MIRROR_PFA_ID - 1] = write_text(&side, record->id,
											   record->id_len);
	values[PFA_MIRROR_ORGANIZATION_ID - 1] = builder->organization;
	values[PFA_MIRROR_DATA - 1] = PointerGetDatum(jsonb);
	values[PFA_MIRROR_CONTENT_HASH - 1] = Int64GetDatum(pfa_row_hash(record));
	consume(builder, side - jsonb);
}

int64
pfa_row_hash(const PfaRecord *record)
{
	return record->hash == 0 ? 1 : (int64) record->hash;
}

static const char *
too_long(const PfaRowBuilder *builder, int field, uint32 len)
{
	return psprintf("%s has %u bytes, more than the %d that its index allows",
					field < 0 ? "the record's id" :
								builder->mapping->fields[field].alias,
					len, PFA_MIRROR_MAX_KEY);
}

const char *
pfa_row_refusal(const PfaRowBuilder *builder, const PfaRecord *record)
{
	const PfaValue *category = field_value(record, builder->category);
	const PfaValue *source = field_value(record, builder->source);

	if (unlikely(record->id_len > PFA_MIRROR_MAX_KEY))
		return too_long(builder, -1, record->id_len);
	if (unlikely(category != NULL && category->len > PFA_MIRROR_MAX_KEY))
		return too_long(builder, builder->category, category->len);
	if (unlikely(source != NULL && source->len > PFA_MIRROR_MAX_KEY))
		return too_long(builder, builder->source, source->len);
	return NULL;
}

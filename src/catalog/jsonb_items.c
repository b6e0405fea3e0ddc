/*
 * jsonb_items.c
 *	  jsonb taken apart into items and put together again.
 *
 * The server's own functions turn each value into a JsonbValue, build a tree
 * and sort its keys.  Here members keep their order and values their bytes, so
 * that merging a record costs little more than copying it.
 *
 * A container is a header, an entry (type and length, or now and then the end
 * offset) for each child, and the children's bytes, of an object first all keys
 * and then all values.  Numbers and nested containers are aligned to 4 bytes,
 * and the padding counts as part of the child.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/builtins.h"

#include "catalog/jsonb_items.h"

/* ---- apart ---- */

static inline bool
is_aligned_type(uint32 type)
{
	return type == JENTRY_ISNUMERIC || type == JENTRY_ISCONTAINER;
}

int
pfa_jsonb_members(const JsonbContainer *object, PfaJsonbItem *items)
{
	int n = pfa_jsonb_nmembers(object);
	const JEntry *entries = object->children;
	const char *base = (const char *) &entries[2 * n];
	uint32 start = 0;

	Assert(object->header & JB_FOBJECT);
	for (int i = 0; i < n; i++)
	{
		uint32 end = start;

		JBE_ADVANCE_OFFSET(end, entries[i]);
		items[i].key = base + start;
		items[i].key_len = end - start;
		start = end;
	}
	for (int i = 0; i < n; i++)
	{
		uint32 type = entries[n + i] & JENTRY_TYPEMASK;
		uint32 end = start;
		uint32 at;

		JBE_ADVANCE_OFFSET(end, entries[n + i]);
		at = is_aligned_type(type) ? INTALIGN(start) : start;
		items[i].type = type;
		items[i].value = base + at;
		items[i].len = end - at;
		start = end;
	}
	return n;
}

int
pfa_jsonb_compare_keys(const char *a, uint32 a_len, const char *b, uint32 b_len)
{
	if (a_len != b_len)
		return a_len < b_len ? -1 : 1;
	return memcmp(a, b, a_len);
}

const PfaJsonbItem *
pfa_jsonb_find(const PfaJsonbItem *items, int n, const char *key)
{
	uint32 len = strlen(key);
	int low = 0;
	int high = n;

	while (low < high)
	{
		int middle = (low + high) / 2;
		int order = pfa_jsonb_compare_keys(items[middle].key,
										   items[middle].key_len, key, len);

		if (order == 0)
			return &items[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

void
pfa_jsonb_get_value(const PfaJsonbItem *item, JsonbValue *value)
{
	switch (item->type)
	{
		case JENTRY_ISSTRING:
			value->type = jbvString;
			value->val.string.val = unconstify(char *, item->value);
			value->val.string.len = (int) item->len;
			break;
		case JENTRY_ISNUMERIC:
			value->type = jbvNumeric;
			value->val.numeric = (Numeric) unconstify(char *, item->value);
			break;
		case JENTRY_ISBOOL_TRUE:
		case JENTRY_ISBOOL_FALSE:
			value->type = jbvBool;
			value->val.boolean = item->type == JENTRY_ISBOOL_TRUE;
			break;
		case JENTRY_ISCONTAINER:
			value->type = jbvBinary;
			value->val.binary.data = (JsonbContainer *) unconstify(char *,
																   item->value);
			value->val.binary.len = (int) item->len;
			break;
		default:
			value->type = jbvNull;
			break;
	}
}

bool
pfa_jsonb_same_value(const PfaJsonbItem *a, const PfaJsonbItem *b)
{
	if (a->type != b->type)
		return false;
	if (a->type == JENTRY_ISNUMERIC)
		return DatumGetBool(DirectFunctionCall2(numeric_eq,
												PointerGetDatum(a->value),
												PointerGetDatum(b->value)));
	return a->len == b->len && memcmp(a->value, b->value, a->len) == 0;
}

/* ---- items ---- */

static void
set_item(PfaJsonbItem *item, const char *key, uint32 type, const char *value,
		 size_t len)
{
	item->key = key;
	item->key_len = key == NULL ? 0 : strlen(key);
	item->type = type;
	item->value = value;
	item->len = len;
}

void
pfa_jsonb_set_null(PfaJsonbItem *item, const char *key)
{
	set_item(item, key, JENTRY_ISNULL, "", 0);
}

void
pfa_jsonb_set_string(PfaJsonbItem *item, const char *key, const char *value,
					 size_t len)
{
	set_item(item, key, JENTRY_ISSTRING, value, len);
}

void
pfa_jsonb_set_bool(PfaJsonbItem *item, const char *key, bool value)
{
	set_item(item, key, value ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE, "",
			 0);
}

void
pfa_jsonb_set_numeric(PfaJsonbItem *item, const char *key, Numeric value)
{
	set_item(item, key, JENTRY_ISNUMERIC, (const char *) value,
			 VARSIZE_ANY(value));
}

void
pfa_jsonb_set_container(PfaJsonbItem *item, const char *key, const char *value,
						size_t len)
{
	set_item(item, key, JENTRY_ISCONTAINER, value, len);
}

/* ---- together ---- */

/* The server's limit, told in its words; entries hold 28 bits. */
void
pfa_jsonb_check_size(Size size)
{
	if (size > JENTRY_OFFLENMASK)
		ereport(
			ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("the answer exceeds the maximum size of jsonb, %u bytes",
					JENTRY_OFFLENMASK),
			 errhint("Ask for fewer records.")));
}

Size
pfa_jsonb_room(const PfaJsonbItem *items, int n)
{
	Size room = sizeof(uint32) + sizeof(JEntry) * 2 * (Size) n;

	for (int i = 0; i < n; i++)
		room += (Size) items[i].key_len + items[i].len + PFA_JSONB_ALIGN;
	pfa_jsonb_check_size(room);
	return room;
}

static inline void
finish_child(PfaJsonbTarget *target, uint32 type, uint32 start)
{
	if (target->nchildren % JB_OFFSET_STRIDE == 0)
		target->entries[target->nchildren] = type | JENTRY_HAS_OFF |
			target->end;
	else
		target->entries[target->nchildren] = type | (target->end - start);
	target->nchildren++;
}

/* Numbers and containers are aligned. */
static inline void
pad(PfaJsonbTarget *target)
{
	uint32 at = INTALIGN(target->end);

	while (target->end < at)
		target->base[target->end++] = '\0';
}

static inline void
put_bytes(PfaJsonbTarget *target, uint32 type, const char *bytes, uint32 len)
{
	uint32 start = target->end;

	if (is_aligned_type(type))
		pad(target);
	memcpy(target->base + target->end, bytes, len);
	target->end += len;
	finish_child(target, type, start);
}

static void
begin(PfaJsonbTarget *target, char *out, uint32 header, int nchildren)
{
	JsonbContainer *container = (JsonbContainer *) out;

	Assert((uintptr_t) out % PFA_JSONB_ALIGN == 0);
	container->header = header;
	target->out = out;
	target->entries = container->children;
	target->base = (char *) &container->children[nchildren];
	target->end = 0;
	target->nchildren = 0;
}

void
pfa_jsonb_begin_object(PfaJsonbTarget *target, char *out,
					   const char *const *keys, int n)
{
	begin(target, out, JB_FOBJECT | (uint32) n, 2 * n);
	for (int i = 0; i < n; i++)
		put_bytes(target, JENTRY_ISSTRING, keys[i], strlen(keys[i]));
}

void
pfa_jsonb_begin_array(PfaJsonbTarget *target, char *out, int n)
{
	begin(target, out, JB_FARRAY | (uint32) n, n);
}

void
pfa_jsonb_put(PfaJsonbTarget *target, const PfaJsonbItem *item)
{
	put_bytes(target, item->type, item->value, item->len);
}

char *
pfa_jsonb_place(PfaJsonbTarget *target)
{
	target->start = target->end;
	pad(target);
	return target->base + target->end;
}

void
pfa_jsonb_placed(PfaJsonbTarget *target, Size len)
{
	target->end += len;
	finish_child(target, JENTRY_ISCONTAINER, target->start);
}

Size
pfa_jsonb_end(const PfaJsonbTarget *target)
{
	return target->base + target->end - target->out;
}

Size
pfa_jsonb_write_object(char *out, const PfaJsonbItem *items, int n)
{
	PfaJsonbTarget target;

	begin(&target, out, JB_FOBJECT | (uint32) n, 2 * n);
	for (int i = 0; i < n; i++)
		put_bytes(&target, JENTRY_ISSTRING, items[i].key, items[i].key_len);
	for (int i = 0; i < n; i++)
		put_bytes(&target, items[i].type, items[i].value, items[i].len);
	return pfa_jsonb_end(&target);
}

Jsonb *
pfa_jsonb_make_object(const PfaJsonbItem *items, int n)
{
	Jsonb *jsonb = palloc(VARHDRSZ + pfa_jsonb_room(items, n));
	Size len = pfa_jsonb_write_object(VARDATA(jsonb), items, n);

	SET_VARSIZE(jsonb, VARHDRSZ + len);
	return jsonb;
}

/*
 * row_parser.c
 *	  One row of a grid, from contiguous bytes to a record.
 *
 * A row is read in one pass.  Its cells are recognized by comparing their
 * first bytes, up to the value, with those of the same cell of the rows
 * before (see PfaRowPrefix); the value's end is found sixteen bytes at a
 * time.  What does not match (another order of members, a cell left out) is
 * read member by member, and becomes the new expectation.  Nothing is copied
 * and nothing but the mapped fields is looked at further.
 */
#include "record/row_parser.h"

#include "record/json_scan.h"
#include "record/json_text.h"

#include <stdlib.h>
#include <string.h>

/* How many cells left out of a row in a run still leave it on the fast path. */
#define PFA_ROW_SKIPPED_CELLS 8

/*
 * Steps return NULL when they cannot go on; row->error tells why, or is NULL
 * where the bytes ended.
 */
static const char *
fail(PfaRowParser *row, const char *at, const char *error)
{
	row->error = error;
	row->error_at = at;
	return NULL;
}

bool
pfa_row_parser_init(PfaRowParser *row, const PfaMapping *mapping,
					const char *organization, const PfaGridLayout *layout,
					const PfaGridLimits *limits, PfaBatch *batch)
{
	memset(row, 0, sizeof(*row));
	row->mapping = mapping;
	row->layout = layout;
	row->limits = limits;
	row->batch = batch;
	row->ascending = true;
	row->max_num = -1;
	row->generation = layout->generation - 1; /* not read yet */
	row->stack_size = limits->max_depth < 1 ? 1 : limits->max_depth;
	row->cells = calloc((size_t) mapping->nfields + 1, sizeof(PfaCell));
	row->stack = malloc((size_t) row->stack_size);
	if (organization != NULL)
		row->organization = strdup(organization);
	row->aliases = pfa_grid_layout_create();
	return row->cells != NULL && row->stack != NULL && row->aliases != NULL &&
		(organization == NULL || row->organization != NULL);
}

void
pfa_row_parser_free(PfaRowParser *row)
{
	free(row->organization);
	pfa_grid_layout_free(row->aliases);
	free(row->field_of);
	free(row->cells);
	free(row->prefixes);
	free(row->stack);
	free(row->scratch);
	memset(row, 0, sizeof(*row));
}

/* Turn the layout into a table by aliasnum, after it has changed. */
static bool
read_layout(PfaRowParser *row)
{
	const PfaGridLayout *layout = row->layout;
	int *table;
	int i;

	table = malloc(((size_t) layout->max_num + 2) * sizeof(int));
	if (table == NULL)
		return false;
	for (i = 0; i <= layout->max_num; i++)
		table[i] = -1;
	row->id_known = false;
	for (i = 0; i < layout->nfields; i++)
	{
		const char *name = layout->fields[i].name;
		int field = pfa_mapping_find(row->mapping, name, strlen(name));

		table[layout->fields[i].num] = field;
		if (field >= 0 && field == row->mapping->id_field)
			row->id_known = true;
	}
	free(row->field_of);
	row->field_of = table;
	row->max_num = layout->max_num;
	row->generation = layout->generation;
	for (i = 0; i < row->nprefixes; i++)
		if (row->prefixes[i].positional)
			row->prefixes[i].len = 0;
	return true;
}

/* ---- steps through the text ---- */

/* Behind the string whose quote is before p. */
static const char *
skip_string(PfaRowParser *row, const char *p, const char *end, bool *escaped)
{
	int i;

	for (;;)
	{
		p = json_string_stop(p, end);
		if (p == end)
			return NULL;
		if (*p == '"')
			return p + 1;
		*escaped = true;
		if (end - p < 2)
			return NULL;
		if (p[1] == '\0' || strchr("\"\\/bfnrtu", p[1]) == NULL)
			return fail(row, p + 1, "invalid escape");
		p += 2;
		if (p[-1] != 'u')
			continue;
		for (i = 0; i < 4; i++, p++)
		{
			if (p == end)
				return NULL;
			if (!((*p >= '0' && *p <= '9') ||
				  ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'f')))
				return fail(row, p, "invalid escape");
		}
	}
}

/* Behind the number or word at p. */
static const char *
skip_scalar(PfaRowParser *row, const char *p, const char *end)
{
	const char *start = p;

	while (p < end && json_is_scalar(*p))
		p++;
	if (p == end)
		return NULL;
	if (p == start)
		return fail(row, p, "expected a value");
	/* most are short integers: not worth a walk through the grammar */
	if (p - start == 1 && *start >= '0' && *start <= '9')
		return p;
	if (!pfa_json_scalar_valid(start, (size_t) (p - start)))
		return fail(row, p, "invalid number or word");
	return p;
}

/* Behind the name at p and its colon, at the value. */
static const char *
skip_name(PfaRowParser *row, const char *p, const char *end, const char **name,
		  size_t *len)
{
	bool escaped = false;

	p = json_skip_space(p, end);
	if (p == end)
		return NULL;
	if (*p != '"')
		return fail(row, p, "expected a name");
	*name = p + 1;
	p = skip_string(row, p + 1, end, &escaped);
	if (p == NULL)
		return NULL;
	*len = (size_t) (p - 1 - *name);
	p = json_skip_space(p, end);
	if (p == end)
		return NULL;
	if (*p != ':')
		return fail(row, p, "expected a colon");
	p = json_skip_space(p + 1, end);
	return p == end ? NULL : p;
}

/*
 * Behind the object or array at p, whatever is in it.  Its nesting is kept in
 * row->stack, from depth on.
 */
static const char *
skip_container(PfaRowParser *row, const char *p, const char *end, int depth)
{
	int base = depth;
	bool escaped = false;
	bool first = true;
	const char *name;
	size_t len;

	for (;;)
	{
		/* at a value; a container is entered */
		if (*p == '{' || *p == '[')
		{
			if (depth >= row->stack_size)
				return fail(row, p, "nested too deep");
			row->stack[depth++] = *p++;
			first = true;
		}
		else
		{
			p = *p == '"' ? skip_string(row, p + 1, end, &escaped) :
							skip_scalar(row, p, end);
			if (p == NULL)
				return NULL;
			first = false;
		}

		/* to the next value, out of the containers that end here */
		for (;;)
		{
			char open = row->stack[depth - 1];

			p = json_skip_space(p, end);
			if (p == end)
				return NULL;
			if (*p == (open == '{' ? '}' : ']'))
			{
				p++;
				first = false;
				if (--depth == base)
					return p;
				continue;
			}
			if (!first)
			{
				if (*p != ',')
					return fail(row, p, "expected a comma or the end");
				p = json_skip_space(p + 1, end);
				if (p == end)
					return NULL;
			}
			if (open == '{')
			{
				p = skip_name(row, p, end, &name, &len);
				if (p == NULL)
					return NULL;
			}
			break;
		}
	}
}

/* Behind the value at p, which is described in *cell. */
static const char *
skip_value(PfaRowParser *row, const char *p, const char *end, int depth,
		   PfaCell *cell)
{
	const char *start = p;
	bool escaped = false;

	if (*p == '"')
	{
		p = skip_string(row, p + 1, end, &escaped);
		if (p == NULL)
			return NULL;
		cell->text = start + 1;
		cell->len = (size_t) (p - start) - 2;
		cell->kind = escaped ? PFA_CELL_ESCAPED : PFA_CELL_STRING;
		return p;
	}
	cell->text = start;
	if (*p == '{' || *p == '[')
	{
		cell->kind = PFA_CELL_NESTED;
		p = skip_container(row, p, end, depth);
	}
	else
	{
		cell->kind = *p == 'n' ? PFA_CELL_NULL : PFA_CELL_SCALAR;
		p = skip_scalar(row, p, end);
	}
	if (p != NULL)
		cell->len = (size_t) (p - start);
	return p;
}

/* ---- cells ---- */

static bool
name_is(const char *name, size_t len, const char *lower)
{
	size_t i;

	for (i = 0; i < len; i++)
	{
		char c = name[i];

		if (c >= 'A' && c <= 'Z')
			c |= 0x20;
		if (lower[i] == '\0' || c != lower[i])
			return false;
	}
	return lower[len] == '\0';
}

/* The number in a cell, -1 if it is none; written as number or string. */
static int
cell_number(const PfaCell *cell)
{
	int num = 0;
	size_t i;

	if (cell->len == 0 || cell->len > 9 ||
		(cell->kind != PFA_CELL_STRING && cell->kind != PFA_CELL_SCALAR))
		return -1;
	for (i = 0; i < cell->len; i++)
	{
		if (cell->text[i] < '0' || cell->text[i] > '9')
			return -1;
		num = num * 10 + (cell->text[i] - '0');
	}
	return num;
}

static int
named_field(PfaRowParser *row, const PfaCell *alias)
{
	char name[256];
	size_t len;

	if (alias->kind == PFA_CELL_STRING)
		return pfa_mapping_find(row->mapping, alias->text, alias->len);
	if (alias->kind != PFA_CELL_ESCAPED || alias->len > sizeof(name))
		return -1;
	if (pfa_json_unescape(alias->text, alias->len, name, &len) !=
		PFA_JSON_TEXT_OK)
		return -1;
	return pfa_mapping_find(row->mapping, name, len);
}

/* The field a positional cell belongs to; -2 where the layout ends before. */
static int
numbered_field(PfaRowParser *row, const PfaCell *cell)
{
	int num = cell_number(cell);

	if (num < 0)
		return -1;
	return num > row->max_num ? -2 : row->field_of[num];
}

static bool
is_named(const PfaCell *alias)
{
	return alias->kind == PFA_CELL_STRING || alias->kind == PFA_CELL_ESCAPED;
}

/* The field a cell belongs to, by its alias, or else by its number. */
static int
cell_field(PfaRowParser *row, const PfaCell *alias, const PfaCell *num)
{
	int field;

	if (is_named(alias))
		return named_field(row, alias);
	if (num->kind == PFA_CELL_NULL)
		return -1;
	row->positional = true;
	field = numbered_field(row, num);
	if (field == -2)
		row->num_unknown = true;
	return field;
}

static inline void
set_cell(PfaRowParser *row, int field, const PfaCell *value)
{
	if (field >= 0)
	{
		row->cells[field] = *value;
		row->cells[field].row = row->row;
	}
}

/* Room for the prefix of cell i; NULL: not remembered. */
static PfaRowPrefix *
prefix_slot(PfaRowParser *row, int i)
{
	if (i >= row->nprefixes)
	{
		int n = i < 64 ? 128 : 2 * i;
		PfaRowPrefix *grown;

		if (n > 1024)
			n = 1024; /* 80 kB; wider grids have a slow tail */
		if (i >= n)
			return NULL;
		grown = realloc(row->prefixes, (size_t) n * sizeof(PfaRowPrefix));
		if (grown == NULL)
			return NULL;
		memset(grown + row->nprefixes, 0,
			   (size_t) (n - row->nprefixes) * sizeof(PfaRowPrefix));
		row->prefixes = grown;
		row->nprefixes = n;
	}
	return &row->prefixes[i];
}

/* Keep the aliases of named cells: they are all the field list there is. */
static void
note_alias(PfaRowParser *row, const PfaCell *alias)
{
	const PfaGridLayout *known = row->aliases;
	int i;

	if (alias->kind != PFA_CELL_STRING || known->nfields >= PFA_ROW_MAX_ALIASES)
		return;
	for (i = 0; i < known->nfields; i++)
	{
		if (strlen(known->fields[i].name) == alias->len &&
			memcmp(known->fields[i].name, alias->text, alias->len) == 0)
			return;
	}
	/* one that finds no memory is only not told of */
	(void) pfa_grid_layout_add(row->aliases, i, alias->text, alias->len);
}

/* False where the prefix was known already. */
static bool
learn_prefix(PfaRowParser *row, int i, const char *start, const char *value,
			 int field, bool positional)
{
	PfaRowPrefix *prefix = prefix_slot(row, i);
	size_t len = (size_t) (value - start);

	if (prefix == NULL)
		return true;
	if (prefix->len == len && memcmp(prefix->text, start, len) == 0)
		return false;
	prefix->len = 0;
	if (len > PFA_ROW_PREFIX_SIZE || field < -1)
		return true;
	prefix->len = (uint8_t) len;
	prefix->field = field;
	prefix->positional = positional;
	memcpy(prefix->text, start, len);
	return true;
}

/* Read the i-th cell, whose '{' is at p, member by member. */
static const char *
read_cell(PfaRowParser *row, const char *p, const char *end, int depth, int i)
{
	const char *start = p;
	const char *value_at = NULL;
	const char *at;
	const char *name;
	size_t len;
	bool positional;
	PfaCell member;
	PfaCell value;
	PfaCell alias;
	PfaCell num;
	int field;

	value.kind = alias.kind = num.kind = PFA_CELL_NULL;
	value.text = alias.text = num.text = "";
	value.len = alias.len = num.len = 0;
	p = json_skip_space(p + 1, end);
	if (p == end)
		return NULL;
	if (*p == '}')
		return p + 1;
	for (;;)
	{
		p = skip_name(row, p, end, &name, &len);
		if (p == NULL)
			return NULL;
		at = p;
		value_at = NULL;
		p = skip_value(row, p, end, depth + 1, &member);
		if (p == NULL)
			return NULL;
		if (name_is(name, len, "value"))
		{
			value = member;
			value_at = at;
		}
		else if (name_is(name, len, "alias_name") ||
				 name_is(name, len, "name") || name_is(name, len, "t"))
			alias = member;
		else if (name_is(name, len, "n") || name_is(name, len, "aliasnum"))
			num = member;
		p = json_skip_space(p, end);
		if (p == end)
			return NULL;
		if (*p == '}')
			break;
		if (*p != ',')
			return fail(row, p, "expected a comma or the end");
		p++;
	}

	field = cell_field(row, &alias, &num);
	positional = !is_named(&alias) && num.kind != PFA_CELL_NULL;
	set_cell(row, field, &value);

	/* value_at is set only where the value came last */
	if (value_at == NULL ||
		learn_prefix(row, i, start, value_at, field, positional))
		note_alias(row, &alias);
	return p + 1;
}

/*
 * The value at p that ends its cell, described in *cell; the closing brace is
 * returned.  NULL: it is not as simple as most are.
 */
static inline const char *
expect_value(const char *p, const char *end, PfaCell *cell)
{
	const char *stop;

	if (*p == '"')
	{
		cell->text = p + 1;
		cell->kind = PFA_CELL_STRING;
		stop = json_string_stop(p + 1, end);
		cell->len = (size_t) (stop - p) - 1;
		if (end - stop < 2 || stop[0] != '"')
			return NULL;
		stop++;
	}
	else
	{
		for (stop = p; stop < end && json_is_scalar(*stop); stop++)
			;
		cell->text = p;
		cell->len = (size_t) (stop - p);
		cell->kind = *p == 'n' ? PFA_CELL_NULL : PFA_CELL_SCALAR;
		if (stop == end || !pfa_json_scalar_valid(p, cell->len))
			return NULL;
	}
	return *stop == '}' ? stop : NULL;
}

/*
 * Read a cell by what the same cell of another row began with.  NULL: read it
 * the slow way; that may be for any reason.
 */
static inline const char *
expect_cell(PfaRowParser *row, const char *p, const char *end,
			const PfaRowPrefix *prefix)
{
	const char *stop;
	PfaCell cell;

	/* two bytes more: the value's first one, and what ends the cell */
	if (prefix->len == 0 || end - p < prefix->len + 2 ||
		!json_same_bytes(p, prefix->text, prefix->len))
		return NULL;
	stop = expect_value(p + prefix->len, end, &cell);
	if (stop == NULL)
		return NULL;
	set_cell(row, prefix->field, &cell);
	if (prefix->positional)
		row->positional = true;
	return stop + 1;
}

/*
 * The cell at p; *i is the place where its prefix is expected, and is moved
 * on.  Grids that leave empty cells out skip some of the places.
 */
static inline const char *
next_cell(PfaRowParser *row, const char *p, const char *end, int depth, int *i)
{
	const char *next;
	PfaCell other;
	int k;

	for (k = *i; k < row->nprefixes && k < *i + PFA_ROW_SKIPPED_CELLS; k++)
	{
		next = expect_cell(row, p, end, &row->prefixes[k]);
		if (next != NULL)
		{
			*i = k + 1;
			return next;
		}
	}
	k = (*i)++;
	if (*p != '{')
		return skip_value(row, p, end, depth, &other);
	if (depth >= row->stack_size)
		return fail(row, p, "nested too deep");
	return read_cell(row, p, end, depth, k);
}

/* The array of cells whose '[' is at p. */
static const char *
read_cells(PfaRowParser *row, const char *p, const char *end, int depth)
{
	int ncells = 0;
	int place = 0;

	p = json_skip_space(p + 1, end);
	if (p == end)
		return NULL;
	if (*p == ']')
		return p + 1;
	for (;;)
	{
		p = next_cell(row, p, end, depth, &place);
		if (p == NULL)
			return NULL;
		row->ncells = ++ncells;
		if (ncells > row->limits->max_fields)
			return fail(row, p, "too many cells in a row");
		if (end - p < 2)
			return NULL;
		if (p[0] == ',' && p[1] == '{')
		{
			p++;
			continue;
		}
		p = json_skip_space(p, end);
		if (p == end)
			return NULL;
		if (*p == ']')
			return p + 1;
		if (*p != ',')
			return fail(row, p, "expected a comma or the end");
		p = json_skip_space(p + 1, end);
		if (p == end)
			return NULL;
	}
}

static const char *
read_row(PfaRowParser *row, const char *p, const char *end, int depth)
{
	const char *name;
	size_t len;
	PfaCell other;

	p = json_skip_space(p + 1, end);
	if (p == end)
		return NULL;
	if (*p == '}')
		return p + 1;
	for (;;)
	{
		p = skip_name(row, p, end, &name, &len);
		if (p == NULL)
			return NULL;
		if ((*p == '[' || *p == '{') &&
			(name_is(name, len, "d") || name_is(name, len, "cell")))
		{
			if (depth + 1 > row->stack_size)
				return fail(row, p, "nested too deep");
			p = *p == '[' ? read_cells(row, p, end, depth + 1) :
							read_cell(row, p, end, depth, 0);
		}
		else
			p = skip_value(row, p, end, depth, &other);
		if (p == NULL)
			return NULL;
		p = json_skip_space(p, end);
		if (p == end)
			return NULL;
		if (*p == '}')
			return p + 1;
		if (*p != ',')
			return fail(row, p, "expected a comma or the end");
		p++;
	}
}

PfaRowStatus
pfa_row_parse(PfaRowParser *row, const char *start, const char *end, int depth,
			  const char **next)
{
	const char *p;

	if (row->generation != row->layout->generation && !read_layout(row))
		return PFA_ROW_OUT_OF_MEMORY;
	row->row++;
	row->ncells = 0;
	row->positional = false;
	row->num_unknown = false;
	row->error = NULL;
	p = read_row(row, start, end, depth);
	if (p == NULL)
		return row->error != NULL ? PFA_ROW_MALFORMED : PFA_ROW_SHORT;
	*next = p;
	return PFA_ROW_COMPLETE;
}

/* ---- a row that is read by the caller ---- */

PfaRowStatus
pfa_row_begin_oversized(PfaRowParser *row)
{
	if (row->generation != row->layout->generation && !read_layout(row))
		return PFA_ROW_OUT_OF_MEMORY;
	row->row++;
	row->positional = false;
	row->num_unknown = false;
	return PFA_ROW_COMPLETE;
}

void
pfa_row_oversized_cell(PfaRowParser *row, const PfaCell *alias,
					   const PfaCell *num, const PfaCell *value)
{
	PfaCell kept = *value;
	int field;
	int slot;

	field = cell_field(row, alias, num);
	if (field < 0)
		return;
	if (field == row->mapping->id_field)
		slot = 0;
	else if (field == row->mapping->organization_field)
		slot = 1;
	else
		return;
	if (kept.len > sizeof(row->kept[slot]))
		kept.len = sizeof(row->kept[slot]);
	memcpy(row->kept[slot], value->text, kept.len);
	kept.text = row->kept[slot];
	set_cell(row, field, &kept);
}

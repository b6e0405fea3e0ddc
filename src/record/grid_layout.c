/*
 * grid_layout.c
 *	  Which alias the cells of a positional row belong to.
 *
 * A plain list in order of arrival: it is walked when a field list arrives
 * and when a parser begins, never for a row.  Names keep the case they came
 * in, because they are shown to people; lookups go through the mapping, which
 * ignores case.
 */
#include "record/grid_layout.h"

#include <stdlib.h>
#include <string.h>

PfaGridLayout *
pfa_grid_layout_create(void)
{
	PfaGridLayout *layout = calloc(1, sizeof(PfaGridLayout));

	if (layout != NULL)
		layout->max_num = -1;
	return layout;
}

void
pfa_grid_layout_clear(PfaGridLayout *layout)
{
	int i;

	for (i = 0; i < layout->nfields; i++)
		free(layout->fields[i].name);
	layout->nfields = 0;
	layout->max_num = -1;
	layout->generation++;
}

void
pfa_grid_layout_free(PfaGridLayout *layout)
{
	if (layout == NULL)
		return;
	pfa_grid_layout_clear(layout);
	free(layout->fields);
	free(layout);
}

int
pfa_grid_layout_size(const PfaGridLayout *layout)
{
	return layout->nfields;
}

const char *
pfa_grid_layout_name(const PfaGridLayout *layout, int i)
{
	return layout->fields[i].name;
}

bool
pfa_grid_layout_add(PfaGridLayout *layout, int num, const char *name,
					size_t len)
{
	char *copy;

	if (layout->nfields == layout->room)
	{
		int room = layout->room == 0 ? 128 : 2 * layout->room;
		void *grown = realloc(layout->fields,
							  (size_t) room * sizeof(*layout->fields));

		if (grown == NULL)
			return false;
		layout->fields = grown;
		layout->room = room;
	}
	copy = malloc(len + 1);
	if (copy == NULL)
		return false;
	memcpy(copy, name, len);
	copy[len] = '\0';
	layout->fields[layout->nfields].num = num;
	layout->fields[layout->nfields].name = copy;
	layout->nfields++;
	if (num > layout->max_num)
		layout->max_num = num;
	layout->generation++;
	return true;
}

void
pfa_grid_layout_move(PfaGridLayout *dst, PfaGridLayout *src)
{
	uint64_t generation = dst->generation + 1;

	pfa_grid_layout_clear(dst);
	free(dst->fields);
	*dst = *src;
	dst->generation = generation;
	memset(src, 0, sizeof(*src));
	src->max_num = -1;
}

bool
pfa_grid_layout_equal(const PfaGridLayout *a, const PfaGridLayout *b)
{
	int i;

	if (a->nfields != b->nfields)
		return false;
	for (i = 0; i < a->nfields; i++)
		if (a->fields[i].num != b->fields[i].num ||
			strcmp(a->fields[i].name, b->fields[i].name) != 0)
			return false;
	return true;
}

/* A name that finds no memory is left out. */
void
pfa_grid_layout_merge(PfaGridLayout *dst, const PfaGridLayout *src)
{
	int i;
	int j;

	for (i = 0; i < src->nfields; i++)
	{
		const char *name = src->fields[i].name;

		for (j = 0; j < dst->nfields; j++)
			if (strcmp(dst->fields[j].name, name) == 0)
				break;
		if (j == dst->nfields)
			(void) pfa_grid_layout_add(dst, j, name, strlen(name));
	}
}

/* Out of memory leaves dst as it was: an older layout is still a layout. */
void
pfa_grid_layout_copy(PfaGridLayout *dst, const PfaGridLayout *src)
{
	PfaGridLayout *copy;
	int i;

	if (dst == src)
		return;
	copy = pfa_grid_layout_create();
	if (copy == NULL)
		return;
	for (i = 0; i < src->nfields; i++)
	{
		if (!pfa_grid_layout_add(copy, src->fields[i].num, src->fields[i].name,
								 strlen(src->fields[i].name)))
		{
			pfa_grid_layout_free(copy);
			return;
		}
	}
	pfa_grid_layout_move(dst, copy);
	pfa_grid_layout_free(copy);
}

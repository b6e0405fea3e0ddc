/*
 * grid_layout.h
 *	  The writing side of a PfaGridLayout, for the parser.
 */
#ifndef PFA_GRID_LAYOUT_H
#define PFA_GRID_LAYOUT_H

#include "record/grid_parser.h"

/* Numbers past this are no columns of a grid; it bounds the lookup table. */
#define PFA_GRID_MAX_ALIASNUM 65535

struct PfaGridLayout
{
	int nfields;
	int room;
	int max_num;         /* greatest aliasnum, -1 without fields */
	uint64_t generation; /* moves with each change */
	struct
	{
		int num;
		char *name;
	} * fields;
};

/* Append a field; false when out of memory. */
extern bool pfa_grid_layout_add(PfaGridLayout *layout, int num,
								const char *name, size_t len);
extern void pfa_grid_layout_clear(PfaGridLayout *layout);
/* Give dst the fields of src, which is left empty. */
extern void pfa_grid_layout_move(PfaGridLayout *dst, PfaGridLayout *src);

#endif /* PFA_GRID_LAYOUT_H */

/*
 * prewarm.c
 *	  Load records and modifications into shared buffers.
 *
 * pg_prewarm's function is taken from its library, so that the extension of
 * that name need not be created in the database.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "catalog/prewarm.h"
#include "catalog/relations.h"

typedef struct Prewarm
{
	PGFunction function;
	int64 blocks_left;
	PfaPrewarmed done;
	void *arg;
} Prewarm;

/* pg_prewarm(relation, 'buffer', 'main', NULL, last block) */
static int64
call_pg_prewarm(PGFunction function, Oid relid, int64 nblocks)
{
	LOCAL_FCINFO(fcinfo, 5);
	Datum loaded;

	InitFunctionCallInfoData(*fcinfo, NULL, 5, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(relid);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = CStringGetTextDatum("buffer");
	fcinfo->args[1].isnull = false;
	fcinfo->args[2].value = CStringGetTextDatum("main");
	fcinfo->args[2].isnull = false;
	fcinfo->args[3].value = (Datum) 0;
	fcinfo->args[3].isnull = true;
	fcinfo->args[4].value = Int64GetDatum(nblocks - 1);
	fcinfo->args[4].isnull = false;
	loaded = function(fcinfo);
	return DatumGetInt64(loaded);
}

static void
load(Prewarm *prewarm, Oid relid)
{
	Relation rel = relation_open(relid, AccessShareLock);
	int64 nblocks = Min((int64) RelationGetNumberOfBlocks(rel),
						prewarm->blocks_left);

	if (nblocks > 0)
		nblocks = call_pg_prewarm(prewarm->function, relid, nblocks);
	prewarm->blocks_left -= nblocks;
	if (prewarm->done != NULL)
		prewarm->done(RelationGetRelationName(rel), nblocks, prewarm->arg);
	relation_close(rel, AccessShareLock);
}

static void
load_indexes(Prewarm *prewarm, Oid table)
{
	Relation rel = table_open(table, AccessShareLock);
	List *indexes = RelationGetIndexList(rel);
	ListCell *cell;

	foreach(cell, indexes)
		load(prewarm, lfirst_oid(cell));
	list_free(indexes);
	table_close(rel, AccessShareLock);
}

void
pfa_prewarm_relations(PfaPrewarmed done, void *arg)
{
	static const PfaRelation tables[] = {PFA_REL_MODIFICATION, PFA_REL_MIRROR};
	Prewarm prewarm = {0};
	Oid user;
	int security;

	prewarm.function = load_external_function("$libdir/pg_prewarm",
											  "pg_prewarm", true, NULL);
	prewarm.blocks_left = (int64) NBuffers * 3 / 4;
	prewarm.done = done;
	prewarm.arg = arg;

	/* The caller may ask for this, not read the tables. */
	GetUserIdAndSecContext(&user, &security);
	for (size_t i = 0; i < lengthof(tables); i++)
	{
		Relation rel = table_open(pfa_relation_oid(tables[i]), AccessShareLock);

		SetUserIdAndSecContext(rel->rd_rel->relowner,
							   security | SECURITY_LOCAL_USERID_CHANGE);
		table_close(rel, AccessShareLock);
		load_indexes(&prewarm, pfa_relation_oid(tables[i]));
	}
	for (size_t i = 0; i < lengthof(tables); i++)
		load(&prewarm, pfa_relation_oid(tables[i]));
	SetUserIdAndSecContext(user, security);
}

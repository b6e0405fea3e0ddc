/*
 * cache_watch.c
 *	  Whether changes of our tables become known to the cache.
 *
 * Changes are noted by triggers (sql/parts/85_cache.sql), and owners can
 * disable triggers.  So each call that is answered from the cache looks whether
 * they are there; the answer is remembered until the server says that one of
 * the tables has changed.  What was kept before a trigger was disabled must not
 * be used once it is enabled again: either command ends all that is cached.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/cache_watch.h"
#include "catalog/extension.h"
#include "catalog/relations.h"
#include "generation.h"

#define CHANGE_TRIGGER   "pfa_note_change"
#define TRUNCATE_TRIGGER "pfa_note_truncate"

static const PfaRelation watched[] = {PFA_REL_MIRROR,
									  PFA_REL_MODIFICATION,
									  PFA_REL_USER_ORGANIZATION,
									  PFA_REL_ORGANIZATION,
									  PFA_REL_SYNC_STATE,
									  PFA_REL_FIELD_MAPPING};

static struct
{
	bool registered;
	bool known;
	bool all_there;
	Oid relids[lengthof(watched)];
} state;

static void
forget(Datum arg, Oid relid)
{
	for (size_t i = 0; i < lengthof(watched); i++)
	{
		if (!OidIsValid(relid) || state.relids[i] == relid)
			state.known = false;
	}
}

static bool
has_trigger(const TriggerDesc *triggers, const char *name, int16 events)
{
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (strcmp(trigger->tgname, name) == 0)
			return trigger->tgenabled == TRIGGER_FIRES_ALWAYS &&
				trigger->tgqual == NULL && (trigger->tgtype & events) == events;
	}
	return false;
}

static bool
is_watched(Oid relid)
{
	Relation rel = table_open(relid, AccessShareLock);
	bool there;

	there = has_trigger(rel->trigdesc, CHANGE_TRIGGER,
						TRIGGER_TYPE_ROW | TRIGGER_TYPE_INSERT |
							TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE) &&
		has_trigger(rel->trigdesc, TRUNCATE_TRIGGER, TRIGGER_TYPE_TRUNCATE);
	table_close(rel, AccessShareLock);
	return there;
}

static void
look(void)
{
	bool all_there = true;

	/* Before the look: a message that comes during it is not lost. */
	state.known = true;
	for (size_t i = 0; i < lengthof(watched); i++)
	{
		state.relids[i] = pfa_relation_oid(watched[i]);
		all_there = is_watched(state.relids[i]) && all_there;
	}
	state.all_there = all_there;
}

bool
pfa_cache_watched(void)
{
	if (!state.registered)
	{
		CacheRegisterRelcacheCallback(forget, (Datum) 0);
		state.registered = true;
	}
	AcceptInvalidationMessages();
	if (!state.known)
		look();
	/* Not known: it has changed during the look. */
	return state.known && state.all_there;
}

void
pfa_cache_table_altered(Oid relid)
{
	PfaExtension extension;

	if (OidIsValid(relid) && pfa_extension_read(&extension) &&
		get_rel_namespace(relid) == extension.schema)
		pfa_generation_note_everything();
}

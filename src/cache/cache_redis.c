/*
 * cache_redis.c
 *	  Values kept in Redis.
 *
 * Each value is there twice.  Under its key is plain JSON, for application
 * servers; nothing in this server ever reads it, so whoever writes there
 * deceives only those who read there.  Under the key with ":sealed" is what
 * this server reads: the value as the server stores it, the stamp it holds
 * for, and a keyed hash (HMAC-SHA256) over these, the key, and the database.
 * The hash's secret is made at each start of the server and never leaves shared
 * memory.  So a value that was forged, flipped, exchanged for another, kept
 * back, or left by an earlier life of the server or by another server, is a
 * miss; as generations are in shared memory too, a crash makes everything in
 * Redis one.
 *
 * What a reader of plain JSON may see: an answer that was right when it was
 * computed, until it is deleted at the end of the commit that changed it, at
 * most redis_timeout later.  Each subject has a hash "...:index" of the keys
 * made from it, with a fence: the newest generation that has been told to
 * Redis.  One script deletes these keys and moves the fence; the one that
 * keeps a value refuses one from below the fence.  So a slow filler leaves
 * nothing behind, even one whose bytes lay in a socket while Redis was stopped.
 * Where Redis cannot be told, because it is down, the plain values end with
 * their lifetimes, or when the scheduler next reaches it: it then deletes all
 * that is ours (pfa_cache_redis_maintain), as it does after a start.
 *
 * Commands: AUTH, SELECT; GET, SCAN, UNLINK, and EVAL of two scripts.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cache/backend.h"
#include "cache/redis_link.h"
#include "guc.h"
#include "registry.h"

#define SECRET_LEN 32
#define MAGIC      "PFACACH1"

/* A larger value is not worth its way. */
#define MAX_VALUE (4 * 1024 * 1024)

/* An index outlives the keys in it. */
#define INDEX_TTL_MS "7200000"

#define SCAN_COUNT "500"

/* Begins a sealed value. */
typedef struct Seal
{
	char magic[8];
	PfaStamp stamp;
	int64 expires_at;
	uint8 mac[PG_SHA256_DIGEST_LENGTH];
} Seal;

#define MAX_SEALED (MAX_VALUE + sizeof(Seal))

typedef struct Shared
{
	uint8 secret[SECRET_LEN];
	char epoch[24];          /* of fences: this start of the server */
	pg_atomic_uint32 used;   /* something has been kept there */
	pg_atomic_uint64 missed; /* changes that it could not be told */
} Shared;

static Shared *shared;

/*
 * KEYS: plain key, sealed key, indexes.  ARGV: JSON, sealed, lifetime, that of
 * indexes, epoch, generations of the indexes.
 */
static const char *const keep_script =
	"for i = 3, #KEYS do\n"
	"  local fence = redis.call('HGET', KEYS[i], 'fence')\n"
	"  if fence then\n"
	"    local epoch, generation = string.match(fence, '^(%S+) (%S+)$')\n"
	"    if epoch == ARGV[5] and tonumber(generation) > tonumber(ARGV[3 + i]) then\n"
	"      return 0\n"
	"    end\n"
	"  end\n"
	"end\n"
	"redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])\n"
	"redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])\n"
	"for i = 3, #KEYS do\n"
	"  redis.call('HSET', KEYS[i], KEYS[1], '1')\n"
	"  redis.call('PEXPIRE', KEYS[i], ARGV[4])\n"
	"end\n"
	"return 1\n";

/* KEYS: index.  ARGV: epoch, generation, lifetime. */
static const char *const change_script =
	"local n = 0\n"
	"local keys = redis.pcall('HKEYS', KEYS[1])\n"
	"if not keys.err then\n"
	"  for _, key in ipairs(keys) do\n"
	"    if key ~= 'fence' then\n"
	"      n = n + redis.call('UNLINK', key, key .. ':sealed')\n"
	"    end\n"
	"  end\n"
	"end\n"
	"redis.call('UNLINK', KEYS[1])\n"
	"redis.pcall('HSET', KEYS[1], 'fence', ARGV[1] .. ' ' .. ARGV[2])\n"
	"redis.pcall('PEXPIRE', KEYS[1], ARGV[3])\n"
	"return n\n";

/* ---- set-up ---- */

Size
pfa_cache_redis_shmem_size(void)
{
	return MAXALIGN(sizeof(Shared)) + pfa_redis_link_shmem_size();
}

void
pfa_cache_redis_shmem_startup(void)
{
	bool found;

	pfa_redis_link_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("pfa_vanguard cache redis", sizeof(Shared),
							 &found);
	if (!found)
	{
		uint64 epoch;

		memset(shared, 0, sizeof(Shared));
		if (!pg_strong_random(shared->secret, SECRET_LEN) ||
			!pg_strong_random(&epoch, sizeof(epoch)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random bytes for the cache")));
		snprintf(shared->epoch, sizeof(shared->epoch), UINT64_FORMAT, epoch);
		pg_atomic_init_u32(&shared->used, 0);
		pg_atomic_init_u64(&shared->missed, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* ---- commands ---- */

#define MAX_ARGS 16

typedef struct Command
{
	int argc;
	const char *argv[MAX_ARGS];
	size_t lens[MAX_ARGS];
} Command;

static void
add_bytes(Command *command, const void *bytes, size_t len)
{
	Assert(command->argc < MAX_ARGS);
	command->argv[command->argc] = bytes;
	command->lens[command->argc] = len;
	command->argc++;
}

static void
add(Command *command, const char *text)
{
	add_bytes(command, text, strlen(text));
}

static void
add_uint64(Command *command, uint64 value)
{
	add(command, psprintf(UINT64_FORMAT, value));
}

static void
send_command(const Command *command)
{
	pfa_redis_send(command->argc, command->argv, command->lens);
}

/* The only reply; NULL where there is none, or an error. */
static const redisReply *
exchange(const Command *command)
{
	const redisReply *reply;

	if (!pfa_redis_begin())
		return NULL;
	send_command(command);
	if (!pfa_redis_converse())
		return NULL;
	reply = pfa_redis_reply(0);
	if (reply->type != REDIS_REPLY_ERROR)
		return reply;
	/* Full, read-only, of another type, not allowed: it answers, at least. */
	pfa_cache_count(PFA_CACHE_ERRORS);
	return NULL;
}

/* ---- keys ---- */

static const char *
prefix(void)
{
	return pfa_guc_redis_key_prefix == NULL ? "" : pfa_guc_redis_key_prefix;
}

static char *
full_key(const char *key)
{
	return psprintf("%s%s", prefix(), key);
}

static char *
sealed_key(const char *key)
{
	return psprintf("%s%s%s", prefix(), key, PFA_CACHE_SEALED);
}

static char *
index_key(const PfaSubject *subject)
{
	StringInfoData key;

	initStringInfo(&key);
	appendStringInfoString(&key, prefix());
	switch (subject->kind)
	{
		case PFA_SUBJECT_RECORDS:
			appendStringInfoString(&key, "pfa:");
			pfa_cache_key_name(&key, subject->organization);
			appendStringInfoString(&key, ":index");
			break;
		case PFA_SUBJECT_DRAFTS:
			appendStringInfoString(&key, "pfa:");
			pfa_cache_key_name(&key, subject->organization);
			appendStringInfoString(&key, ":index:user:");
			pfa_cache_key_name(&key, subject->user);
			break;
		case PFA_SUBJECT_CONFIG:
			appendStringInfoString(&key, "org:");
			pfa_cache_key_name(&key, subject->organization);
			appendStringInfoString(&key, ":index");
			break;
		case PFA_SUBJECT_USER:
			appendStringInfoString(&key, "user:");
			pfa_cache_key_name(&key, subject->user);
			appendStringInfoString(&key, ":index");
			break;
		case PFA_SUBJECT_EVERYTHING:
			Assert(false);
			break;
	}
	return key.data;
}

/* ---- seals ---- */

static bool
compute_mac(const PfaCacheItem *item, const Seal *seal, const void *payload,
			size_t len, uint8 *mac)
{
	pg_hmac_ctx *hmac = pg_hmac_create(PG_SHA256);
	uint32 identity[4] = {MyDatabaseId, item->scope, (uint32) item->keyspace,
						  (uint32) strlen(item->key)};
	bool done;

	done = hmac != NULL &&
		pg_hmac_init(hmac, shared->secret, SECRET_LEN) >= 0 &&
		pg_hmac_update(hmac, (const uint8 *) identity, sizeof(identity)) >= 0 &&
		pg_hmac_update(hmac, (const uint8 *) item->key, identity[3]) >= 0 &&
		pg_hmac_update(hmac, (const uint8 *) &seal->stamp,
					   sizeof(seal->stamp)) >= 0 &&
		pg_hmac_update(hmac, (const uint8 *) &seal->expires_at,
					   sizeof(seal->expires_at)) >= 0 &&
		pg_hmac_update(hmac, payload, len) >= 0 &&
		pg_hmac_final(hmac, mac, PG_SHA256_DIGEST_LENGTH) >= 0;
	pg_hmac_free(hmac);
	return done;
}

/* In time that does not tell where they differ. */
static bool
same_mac(const uint8 *a, const uint8 *b)
{
	uint8 difference = 0;

	for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

static bool
reject(void)
{
	pfa_cache_count(PFA_CACHE_REJECTED);
	return false;
}

/* Whether the bytes are a value that this server kept, for this stamp. */
static bool
check_seal(const PfaCacheItem *item, const PfaStamp *stamp, const char *bytes,
		   size_t len)
{
	Seal seal;
	uint8 mac[PG_SHA256_DIGEST_LENGTH];

	if (len <= sizeof(Seal) + VARHDRSZ || len > MAX_SEALED)
		return reject();
	memcpy(&seal, bytes, sizeof(seal));
	if (memcmp(seal.magic, MAGIC, sizeof(seal.magic)) != 0)
		return reject();
	if (!pfa_stamp_equal(&seal.stamp, stamp) ||
		GetCurrentTimestamp() >= seal.expires_at)
		return false;
	if (!compute_mac(item, &seal, bytes + sizeof(seal), len - sizeof(seal),
					 mac) ||
		!same_mac(mac, seal.mac))
		return reject();
	return true;
}

static Jsonb *
get(const PfaCacheItem *item, const PfaStamp *stamp)
{
	Command command = {0};
	const redisReply *reply;
	Jsonb *value;
	size_t len;

	/*
	 * Of a value that somebody else has put there, however large, no more comes
	 * than shows that it is not ours.
	 */
	add(&command, "GETRANGE");
	add(&command, sealed_key(item->key));
	add(&command, "0");
	add_uint64(&command, MAX_SEALED);
	reply = exchange(&command);
	if (reply == NULL || reply->type != REDIS_REPLY_STRING || reply->len == 0)
		return NULL;
	if (!check_seal(item, stamp, reply->str, reply->len))
		return NULL;
	len = reply->len - sizeof(Seal);
	value = palloc(len);
	memcpy(value, reply->str + sizeof(Seal), len);
	return value;
}

/* ---- keeping ---- */

/* Seal and payload as one piece; NULL where that cannot be done. */
static char *
seal_value(const PfaCacheItem *item, const PfaStamp *stamp, Jsonb *value)
{
	Size len = VARSIZE(value);
	char *bytes = palloc(sizeof(Seal) + len);
	Seal seal;

	memset(&seal, 0, sizeof(seal));
	memcpy(seal.magic, MAGIC, sizeof(seal.magic));
	seal.stamp = *stamp;
	seal.expires_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  item->ttl_ms);
	if (!compute_mac(item, &seal, value, len, seal.mac))
		return NULL;
	memcpy(bytes, &seal, sizeof(seal));
	memcpy(bytes + sizeof(seal), value, len);
	return bytes;
}

static const redisReply *
send_value(const PfaCacheItem *item, const PfaStamp *stamp, const char *sealed,
		   Size sealed_len, const char *json)
{
	Command command = {0};

	add(&command, "EVAL");
	add(&command, keep_script);
	add_uint64(&command, 2 + item->nsubjects);
	add(&command, full_key(item->key));
	add(&command, sealed_key(item->key));
	for (int i = 0; i < item->nsubjects; i++)
		add(&command, index_key(&item->subjects[i]));
	add(&command, json);
	add_bytes(&command, sealed, sealed_len);
	add_uint64(&command, (uint64) item->ttl_ms);
	add(&command, INDEX_TTL_MS);
	add(&command, shared->epoch);
	for (int i = 0; i < item->nsubjects; i++)
		add_uint64(&command, stamp->generations[i]);
	return exchange(&command);
}

static bool
ends_in(const char *key, size_t len, const char *end)
{
	size_t n = strlen(end);

	return len >= n && memcmp(key + len - n, end, n) == 0;
}

/* Delete a key and its sibling. */
static void
send_unlink(const char *key, size_t len)
{
	Command command = {0};
	size_t plain = len;

	if (ends_in(key, len, PFA_CACHE_SEALED))
		plain -= strlen(PFA_CACHE_SEALED);
	add(&command, "UNLINK");
	add_bytes(&command, key, plain);
	add(&command, psprintf("%.*s%s", (int) plain, key, PFA_CACHE_SEALED));
	send_command(&command);
}

/*
 * The state may have changed while the value was on its way, and the change
 * been told before the value was there.
 */
static void
take_back_if_old(const PfaCacheItem *item, const PfaStamp *stamp)
{
	char *key;

	for (int i = 0; i < item->nsubjects; i++)
	{
		if (pfa_generation_now(&item->subjects[i]) == stamp->generations[i])
			continue;
		if (!pfa_redis_begin())
			return;
		key = full_key(item->key);
		send_unlink(key, strlen(key));
		(void) pfa_redis_converse();
		return;
	}
}

static bool
set(const PfaCacheItem *item, const PfaStamp *stamp, Jsonb *value)
{
	const redisReply *reply;
	char *sealed;
	char *json;
	bool kept;

	if (!pfa_redis_is_up())
		return false;
	if (VARSIZE(value) > MAX_VALUE)
	{
		pfa_cache_count(PFA_CACHE_TOO_LARGE);
		return false;
	}
	/* Before anything is there: who changes it has to know. */
	pg_atomic_write_u32(&shared->used, 1);
	pg_memory_barrier();
	sealed = seal_value(item, stamp, value);
	if (sealed == NULL)
		return false;
	json = JsonbToCString(NULL, &value->root, VARSIZE(value));
	reply = send_value(item, stamp, sealed, sizeof(Seal) + VARSIZE(value),
					   json);
	pfree(sealed);
	pfree(json);
	kept = reply != NULL && reply->type == REDIS_REPLY_INTEGER &&
		reply->integer == 1;
	if (kept)
		take_back_if_old(item, stamp);
	return kept;
}

/* ---- changes ---- */

static void
miss_change(void)
{
	pg_atomic_fetch_add_u64(&shared->missed, 1);
	pfa_wake_scheduler_now(MyDatabaseId);
}

static void
send_change(const PfaSubject *subject)
{
	Command command = {0};

	add(&command, "EVAL");
	add(&command, change_script);
	add(&command, "1");
	add(&command, index_key(subject));
	add(&command, shared->epoch);
	add_uint64(&command, pfa_generation_now(subject));
	add(&command, INDEX_TTL_MS);
	send_command(&command);
}

static bool
tell_changes(const PfaSubject *subjects, int nsubjects)
{
	bool all = true;

	for (int i = 0; i < nsubjects; i++)
		all = all && subjects[i].kind != PFA_SUBJECT_EVERYTHING;
	if (!all || nsubjects > PFA_REDIS_MAX_COMMANDS || !pfa_redis_begin())
		return false;
	for (int i = 0; i < nsubjects; i++)
		send_change(&subjects[i]);
	if (!pfa_redis_converse())
		return false;
	for (int i = 0; i < nsubjects; i++)
		all = all && pfa_redis_reply(i)->type == REDIS_REPLY_INTEGER;
	return all;
}

/*
 * The transaction has committed, so nothing may come out of here but a return,
 * and interrupts stay held off as they were.
 */
void
pfa_cache_redis_changed(const PfaSubject *subjects, int nsubjects)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context;
	uint32 holdoff = InterruptHoldoffCount;
	volatile bool told = false;

	if (shared == NULL || !pfa_redis_configured() ||
		pg_atomic_read_u32(&shared->used) == 0)
		return;
	HOLD_INTERRUPTS();
	PG_TRY();
	{
		context = AllocSetContextCreate(caller, "pfa_vanguard cache changes",
										ALLOCSET_DEFAULT_SIZES);
		MemoryContextSwitchTo(context);
		told = tell_changes(subjects, nsubjects);
		MemoryContextSwitchTo(caller);
		MemoryContextDelete(context);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		InterruptHoldoffCount = holdoff + 1;
	}
	PG_END_TRY();
	RESUME_INTERRUPTS();
	if (!told)
		miss_change();
}

/* ---- going through the keys ---- */

/* The text so that a pattern matches only it. */
static void
append_quoted(StringInfo pattern, const char *text)
{
	for (; *text != '\0'; text++)
	{
		if (strchr("*?[]\\^-", *text) != NULL)
			appendStringInfoChar(pattern, '\\');
		appendStringInfoChar(pattern, *text);
	}
}

typedef bool (*KeyTest)(const char *key, size_t len);

/* Keys are copied: their reply goes with the next exchange. */
static char **
copy_keys(const redisReply *reply, KeyTest test, int *nkeys)
{
	const redisReply *list = reply->element[1];
	char **keys = palloc((list->elements + 1) * sizeof(char *));

	*nkeys = 0;
	for (size_t i = 0; i < list->elements; i++)
	{
		const redisReply *key = list->element[i];

		if (key->type == REDIS_REPLY_STRING && strlen(key->str) == key->len &&
			(test == NULL || test(key->str, key->len)))
			keys[(*nkeys)++] = pstrdup(key->str);
	}
	return keys;
}

/* Returns how many were there, -1 where Redis does not answer. */
static int64
unlink_keys(char **keys, int nkeys)
{
	int64 n = 0;

	for (int i = 0; i < nkeys;)
	{
		int batch = Min(nkeys - i, PFA_REDIS_MAX_COMMANDS);

		if (!pfa_redis_begin())
			return -1;
		for (int j = 0; j < batch; j++)
			send_unlink(keys[i + j], strlen(keys[i + j]));
		if (!pfa_redis_converse())
			return -1;
		for (int j = 0; j < batch; j++)
			n += pfa_redis_reply(j)->type == REDIS_REPLY_INTEGER &&
				pfa_redis_reply(j)->integer > 0;
		i += batch;
	}
	return n;
}

/* One step of a scan; *cursor is replaced, "0" at the end. */
static bool
scan_step(const char *pattern, char **cursor, KeyTest test, char ***keys,
		  int *nkeys)
{
	Command command = {0};
	const redisReply *reply;

	add(&command, "SCAN");
	add(&command, *cursor);
	add(&command, "MATCH");
	add(&command, pattern);
	add(&command, "COUNT");
	add(&command, SCAN_COUNT);
	reply = exchange(&command);
	if (reply == NULL || reply->type != REDIS_REPLY_ARRAY ||
		reply->elements != 2 || reply->element[0]->type != REDIS_REPLY_STRING ||
		reply->element[1]->type != REDIS_REPLY_ARRAY)
		return false;
	*keys = copy_keys(reply, test, nkeys);
	*cursor = pstrdup(reply->element[0]->str);
	return true;
}

/* Delete what matches; -1 where Redis stops answering. */
static int64
unlink_matching(const char *pattern, KeyTest test)
{
	char *cursor = "0";
	int64 total = 0;

	do
	{
		char **keys;
		int nkeys;
		int64 n;

		CHECK_FOR_INTERRUPTS();
		if (!scan_step(pattern, &cursor, test, &keys, &nkeys))
			return -1;
		n = unlink_keys(keys, nkeys);
		if (n < 0)
			return -1;
		total += n;
	} while (strcmp(cursor, "0") != 0);
	return total;
}

/*
 * Only keys that have a sealed sibling: the pattern may match what others keep
 * in the same Redis.
 */
static int64
remove_values(const char *pattern)
{
	StringInfoData full;
	int64 n;

	initStringInfo(&full);
	append_quoted(&full, prefix());
	appendStringInfo(&full, "%s%s", pattern, PFA_CACHE_SEALED);
	n = unlink_matching(full.data, NULL);
	return Max(n, 0);
}

/* ---- the scheduler's part ---- */

/* Keys that only this extension writes, and anything sealed. */
static bool
is_ours(const char *key, size_t len)
{
	const char *p = key + strlen(prefix());

	/* What Redis was asked for, if it is one. */
	if (len < strlen(prefix()))
		return false;
	if (ends_in(key, len, PFA_CACHE_SEALED))
		return true;
	if (strncmp(p, "pfa:", 4) == 0)
		return strstr(p, ":data") != NULL || strstr(p, ":index") != NULL ||
			ends_in(key, len, ":stats");
	if (strncmp(p, "org:", 4) == 0)
		return ends_in(key, len, ":config") || ends_in(key, len, ":index");
	if (strncmp(p, "user:", 5) == 0)
		return ends_in(key, len, ":perms") || ends_in(key, len, ":index");
	return false;
}

/*
 * Delete all that is ours, after a start of the server, and after changes that
 * Redis could not be told.  What has been missed meanwhile is left for the next
 * turn.
 */
void
pfa_cache_redis_maintain(void)
{
	static bool purged;
	static uint64 purged_missed;
	uint64 missed;
	StringInfoData pattern;

	if (!pfa_redis_configured() || RecoveryInProgress())
		return;
	pfa_redis_resolve();
	missed = pg_atomic_read_u64(&shared->missed);
	if ((purged && purged_missed == missed) ||
		(pfa_guc_cache_backend != PFA_CACHE_BACKEND_REDIS &&
		 pg_atomic_read_u32(&shared->used) == 0))
		return;
	initStringInfo(&pattern);
	append_quoted(&pattern, prefix());
	appendStringInfoChar(&pattern, '*');
	if (unlink_matching(pattern.data, is_ours) < 0)
		return;
	purged = true;
	purged_missed = missed;
}

const PfaCacheBackend pfa_cache_redis = {.name = "redis",
										 .get = get,
										 .set = set,
										 .remove = remove_values,
										 .is_up = pfa_redis_is_up,
										 .measure = NULL};

/*
 * main.c
 *	  Command line of the PEMS simulator; see README.md.
 */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

typedef struct Options
{
	SimServerOptions server;
	const char *port_file;
	const char *pid_file;
	const char *orgs;
	uint64_t seed;
	int nbad;
	bool lazy;
} Options;

enum
{
	OPT_PORT = 256,
	OPT_PORT_FILE,
	OPT_PID_FILE,
	OPT_ORGS,
	OPT_SEED,
	OPT_SHAPE,
	OPT_USER,
	OPT_PASSWORD,
	OPT_API_KEY,
	OPT_ODDITIES,
	OPT_BAD,
	OPT_TLS_CERT,
	OPT_TLS_KEY,
	OPT_THREADS,
	OPT_LAZY,
	OPT_SET
};

static const struct option long_options[] =
	{{"port", required_argument, NULL, OPT_PORT},
	 {"port-file", required_argument, NULL, OPT_PORT_FILE},
	 {"pid-file", required_argument, NULL, OPT_PID_FILE},
	 {"orgs", required_argument, NULL, OPT_ORGS},
	 {"seed", required_argument, NULL, OPT_SEED},
	 {"shape", required_argument, NULL, OPT_SHAPE},
	 {"user", required_argument, NULL, OPT_USER},
	 {"password", required_argument, NULL, OPT_PASSWORD},
	 {"api-key", required_argument, NULL, OPT_API_KEY},
	 {"oddities", no_argument, NULL, OPT_ODDITIES},
	 {"bad", required_argument, NULL, OPT_BAD},
	 {"tls-cert", required_argument, NULL, OPT_TLS_CERT},
	 {"tls-key", required_argument, NULL, OPT_TLS_KEY},
	 {"threads", required_argument, NULL, OPT_THREADS},
	 {"lazy", no_argument, NULL, OPT_LAZY},
	 {"set", required_argument, NULL, OPT_SET},
	 {NULL, 0, NULL, 0}};

static void
fail(const char *what, const char *detail)
{
	fprintf(stderr, "pems_sim: %s: %s\n", what, detail);
	exit(1);
}

static void
set(const char *name, const char *value)
{
	const char *error = sim_setting_apply(name, value);

	if (error)
		fail(error, name);
}

static void
set_pair(char *pair)
{
	char *equals = strchr(pair, '=');

	if (equals == NULL)
		fail("not name=value", pair);
	*equals = '\0';
	set(pair, equals + 1);
}

static void
parse_options(int argc, char **argv, Options *options)
{
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		switch (c)
		{
			case OPT_PORT:
				options->server.port = atoi(optarg);
				break;
			case OPT_PORT_FILE:
				options->port_file = optarg;
				break;
			case OPT_PID_FILE:
				options->pid_file = optarg;
				break;
			case OPT_ORGS:
				options->orgs = optarg;
				break;
			case OPT_SEED:
				options->seed = strtoull(optarg, NULL, 10);
				break;
			case OPT_SHAPE:
				set("shape", optarg);
				break;
			case OPT_USER:
				set("user", optarg);
				break;
			case OPT_PASSWORD:
				set("password", optarg);
				break;
			case OPT_API_KEY:
				set("api_key", optarg);
				break;
			case OPT_ODDITIES:
				set("oddities", "on");
				break;
			case OPT_BAD:
				options->nbad = atoi(optarg);
				break;
			case OPT_TLS_CERT:
				options->server.tls_cert = optarg;
				break;
			case OPT_TLS_KEY:
				options->server.tls_key = optarg;
				break;
			case OPT_THREADS:
				options->server.threads = atoi(optarg);
				break;
			case OPT_LAZY:
				options->lazy = true;
				break;
			case OPT_SET:
				set_pair(optarg);
				break;
			default:
				exit(2);
		}
	if (optind < argc)
		fail("unexpected argument", argv[optind]);
	if (!options->server.tls_cert != !options->server.tls_key)
		fail("--tls-cert and --tls-key", "one without the other");
	if (options->server.threads < 1)
		fail("--threads", "must be positive");
}

/* NAME:ROWS,NAME:ROWS; NAME*N:ROWS makes NAME0001 to NAMEn. */
static void
create_orgs(const char *list)
{
	char *copy = strdup(list);
	char *state = NULL;
	char *item;

	for (item = strtok_r(copy, ",", &state); item;
		 item = strtok_r(NULL, ",", &state))
	{
		char *colon = strchr(item, ':');
		char *star = strchr(item, '*');
		int64_t rows = colon ? strtoll(colon + 1, NULL, 10) : 1000;
		int copies = star ? atoi(star + 1) : 1;
		int i;

		if (colon)
			*colon = '\0';
		if (star)
			*star = '\0';
		for (i = 1; i <= copies; i++)
		{
			char name[64];

			if (star)
				snprintf(name, sizeof(name), "%.40s%04d", item, i);
			else
				snprintf(name, sizeof(name), "%.60s", item);
			if (sim_org_create(name, rows) == NULL)
				fail("too many organizations", name);
		}
	}
	free(copy);
}

/* Complete or not there at all: others wait for it. */
static void
write_file(const char *path, long value)
{
	char temporary[4096];
	FILE *file;

	if (path == NULL)
		return;
	snprintf(temporary, sizeof(temporary), "%s.tmp", path);
	file = fopen(temporary, "w");
	if (file == NULL)
		fail("could not write", path);
	fprintf(file, "%ld\n", value);
	if (fclose(file) != 0 || rename(temporary, path) != 0)
		fail("could not write", path);
}

int
main(int argc, char **argv)
{
	Options options = {.server.threads = 3, .orgs = "RIO:1000", .seed = 1};
	sigset_t signals;
	int caught;
	int port;

	/* before the first thread, so that all inherit it */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);

	sim_fields_init();
	sim_render_replan();
	parse_options(argc, argv, &options);
	write_file(options.pid_file, (long) getpid());
	sim_data_init(options.seed, options.nbad);
	create_orgs(options.orgs);
	if (!options.lazy)
		sim_warm();
	port = sim_server_start(&options.server);
	if (port == 0)
		fail("could not listen", "127.0.0.1");
	write_file(options.port_file, port);
	printf("pems_sim: listening on 127.0.0.1:%d\n", port);
	fflush(stdout);

	sigwait(&signals, &caught);
	if (options.port_file)
		unlink(options.port_file);
	if (options.pid_file)
		unlink(options.pid_file);
	/* suspended connections would have to be waited for: leave them */
	_exit(0);
}

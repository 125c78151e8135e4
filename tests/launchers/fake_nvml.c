/* A libnvidia-ml.so.1 with one GPU whose state stands in the file $FAKE_NVML_STATE:
   "used_mib pid pid_mib throttle_bits ecc" (a pid of 0: no process). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long u64;
static u64 used, pid, pid_mib, throttle, ecc;

static void load(void) {
    used = pid = pid_mib = throttle = ecc = 0;
    FILE *file = fopen(getenv("FAKE_NVML_STATE"), "r");
    if (!file) return;
    if (fscanf(file, "%llu %llu %llu %llu %llu", &used, &pid, &pid_mib, &throttle, &ecc) < 1) used = 0;
    fclose(file);
}

int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)(u64)(i + 1); return 0; }
int nvmlDeviceGetUUID(void *d, char *text, unsigned n) { strncpy(text, "GPU-fake-0", n); return 0; }
int nvmlDeviceGetName(void *d, char *text, unsigned n) { strncpy(text, "Fake H200", n); return 0; }
int nvmlDeviceGetMemoryInfo(void *d, u64 *memory) {
    load();
    memory[0] = 141ULL << 30; memory[2] = used << 20; memory[1] = memory[0] - memory[2];
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *d, unsigned *rates) { rates[0] = 75; rates[1] = 5; return 0; }
struct process { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; };
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *count, struct process *found) {
    load();
    *count = pid ? 1 : 0;
    if (pid) { found[0].pid = (unsigned)pid; found[0].used = pid_mib << 20; }
    return 0;
}
int nvmlDeviceGetClockInfo(void *d, unsigned kind, unsigned *mhz) { *mhz = 1980; return 0; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *d, u64 *bits) { load(); *bits = throttle; return 0; }
int nvmlDeviceGetTotalEccErrors(void *d, unsigned kind, unsigned counter, u64 *n) { load(); *n = ecc; return 0; }

// A driver around the RISC-V IOMMU specification's C reference model, so that a test can play a case on it:
// the callbacks that the model asks of its host (memory, messages, request attributes) and a flat interface
// for ctypes. The model itself is not part of this repository; `python -m tests.support.iommu_reference` says
// where it is found and how this file is built against it.
//
// Memory is one array of RAM at `ram_base`; whatever lies outside it is an access fault, as it is on the
// board.
#include "iommu.h"

enum { message_capacity = 64, store_capacity = 64 };

struct request {
    uint32_t device_id, process_id;
    uint64_t iova;
    uint8_t pid_valid, no_write, exec_req, priv_req, is_cxl, address_type, write, unused;
};

struct response {
    uint64_t status, ppn, s, n, cxl_io, global, priv, u, r, w, exe, ama, pbmt, is_msi, is_mrif;
    uint64_t mrif_address, mrif_nid;
};

// A store of the model's that missed RAM: an interrupt message on its way to an interrupt controller.
struct outside_store {
    uint64_t address;
    uint32_t data, unused;
};

static iommu_t model;
static uint8_t* ram;
static uint64_t ram_base, ram_size, sink_base, sink_size;
static ats_msg_t messages[message_capacity];
static uint32_t message_count;
static struct outside_store stores[store_capacity];
static uint32_t store_count;

static uint8_t* in_ram(uint64_t address, uint64_t size) {
    return address >= ram_base && address - ram_base <= ram_size - size ? ram + (address - ram_base) : NULL;
}

static void copy(uint8_t* to, const uint8_t* from, uint32_t size, int endian) {
    uint32_t unit = size < 8 ? size : 8;
    for (uint32_t i = 0; i < size; i++)
        to[i] = endian == BIG_ENDIAN ? from[i - i % unit + unit - 1 - i % unit] : from[i];
}

uint8_t read_memory(uint64_t address, uint8_t size, char* data, uint32_t rcid, uint32_t mcid, uint32_t pma,
                    int endian) {
    const uint8_t* from = in_ram(address, size);
    if (from == NULL) return ACCESS_FAULT;
    copy((uint8_t*)data, from, size, endian);
    return 0;
}

uint8_t read_memory_for_AMO(uint64_t address, uint8_t size, char* data, uint32_t rcid, uint32_t mcid,
                            uint32_t pma, int endian) {
    return read_memory(address, size, data, rcid, mcid, pma, endian);
}

uint8_t write_memory(char* data, uint64_t address, uint32_t size, uint32_t rcid, uint32_t mcid, uint32_t pma,
                     int endian) {
    uint8_t* to = in_ram(address, size);
    if (to != NULL) {
        copy(to, (const uint8_t*)data, size, endian);
        return 0;
    }
    if (size != 4 || address < sink_base || address - sink_base >= sink_size || store_count == store_capacity)
        return ACCESS_FAULT;
    stores[store_count].address = address;
    copy((uint8_t*)&stores[store_count++].data, (const uint8_t*)data, 4, endian);
    return 0;
}

void iommu_to_hb_do_global_observability_sync(uint8_t PR, uint8_t PW) {}

void send_msg_iommu_to_hb(ats_msg_t* message) {
    if (message_count < message_capacity) messages[message_count++] = *message;
}

// Section 2.3 (process to translate an IOVA) and 3.6 (ATS): an untranslated read for execute asks for execute
// permission alone; an ATS translation request asks for read, for write unless No Write is set, and for
// execute only when it carries a process_id.
void get_attribs_from_req(hb_to_iommu_req_t* request, uint8_t* read, uint8_t* write, uint8_t* exec,
                          uint8_t* priv) {
    int ats = request->tr.at == ADDR_TYPE_PCIE_ATS_TRANSLATION_REQUEST;
    int untranslated = request->tr.at == ADDR_TYPE_UNTRANSLATED;
    int reads = request->tr.read_writeAMO == READ;
    *exec = reads && request->exec_req && (untranslated || request->pid_valid);
    *read = reads && !(*exec && untranslated);
    *write = !reads || (ats && !request->no_write);
    *priv = request->pid_valid && request->priv_req ? S_MODE : U_MODE;
}

// The range of a translation must not reach into a virtual interrupt file, which the MSI page table
// translates (section 3.1.3.6): halved by table levels until no page of it matches the pattern.
void handle_virtual_interrupt_file_overlap(device_context_t* dc, uint64_t gpa, uint64_t* size) {
    if (dc->msiptp.MODE == MSIPTP_Off) return;
    uint64_t differs =
        ((gpa >> 12) ^ dc->msi_addr_pattern.pattern) & ~dc->msi_addr_mask.mask & (((uint64_t)1 << 52) - 1);
    while (*size > PAGESIZE && (differs & ~((*size >> 12) - 1)) == 0)
        *size = *size == 16 * PAGESIZE ? PAGESIZE : *size / 512;
}

void model_attach(uint8_t* memory, uint64_t base, uint64_t size, uint64_t messages_at,
                  uint64_t messages_size) {
    ram = memory, ram_base = base, ram_size = size, sink_base = messages_at, sink_size = messages_size;
}

// `bare_size`: the range of a translation whose stage is Bare, which the specification leaves open.
void model_reset(uint64_t capabilities, uint32_t features, uint32_t gxl_writable, uint32_t vector_bits,
                 uint32_t counters, uint32_t counter_bits, uint64_t bare_size) {
    capabilities_t caps;
    fctl_t fctl;
    caps.raw = capabilities;
    fctl.raw = features;
    memset(&model, 0, sizeof model);
    message_count = store_count = 0;
    reset_iommu(&model, counters, counter_bits, 0xff, vector_bits, Off, DDT_3LVL, 0xffffff, gxl_writable,
                caps.end, FILL_IOATC_ATS_T2GPA, caps, fctl, bare_size, bare_size, bare_size, bare_size,
                bare_size, bare_size, bare_size, bare_size);
}

// What the model caches is not architectural (its own words): without this every request would be judged
// against whatever an earlier one of the case left behind.
void model_forget(void) {
    memset(model.ddt_cache, 0, sizeof model.ddt_cache);
    memset(model.pdt_cache, 0, sizeof model.pdt_cache);
    memset(model.tlb, 0, sizeof model.tlb);
}

uint64_t model_read(uint32_t offset, uint32_t size) {
    return read_register(&model, offset, size);
}

void model_write(uint32_t offset, uint32_t size, uint64_t value) {
    write_register(&model, offset, size, value);
}

// The model runs one command a call; it makes no progress when the queue is empty, stalled or in error.
void model_run_commands(void) {
    uint32_t head;
    do {
        head = model.reg_file.cqh.index;
        process_commands(&model);
    } while (model.reg_file.cqh.index != head);
}

void model_request(const struct request* in, struct response* out) {
    hb_to_iommu_req_t request;
    iommu_to_hb_rsp_t response;
    memset(&request, 0, sizeof request);
    memset(&response, 0, sizeof response);
    request.device_id = in->device_id;
    request.pid_valid = in->pid_valid;
    request.process_id = in->process_id;
    request.no_write = in->no_write;
    request.exec_req = in->exec_req;
    request.priv_req = in->priv_req;
    request.is_cxl_dev = in->is_cxl;
    request.tr.at = in->address_type;
    request.tr.iova = in->iova;
    request.tr.length = 1;
    request.tr.read_writeAMO = in->write ? WRITE : READ;
    iommu_translate_iova(&model, &request, &response);
    memset(out, 0, sizeof *out);
    out->status = response.status;
    if (response.status != SUCCESS) return;
    out->ppn = response.trsp.PPN;
    out->s = response.trsp.S;
    out->n = response.trsp.N;
    out->cxl_io = response.trsp.CXL_IO;
    out->global = response.trsp.Global;
    out->priv = response.trsp.Priv;
    out->u = response.trsp.U;
    out->r = response.trsp.R;
    out->w = response.trsp.W;
    out->exe = response.trsp.Exe;
    out->ama = response.trsp.AMA;
    out->pbmt = response.trsp.PBMT;
    out->is_msi = response.trsp.is_msi;
    out->is_mrif = response.trsp.is_mrif;
    if (out->is_mrif) {
        out->mrif_address = response.trsp.dest_mrif_addr;
        out->mrif_nid = response.trsp.mrif_nid;
    }
}

// `device_id` as the request's; its segment, bits 23:16, counts as valid when it is not 0.
static ats_msg_t message_from(uint32_t device_id, uint32_t pid_valid, uint32_t process_id, uint64_t payload) {
    ats_msg_t message;
    memset(&message, 0, sizeof message);
    message.RID = device_id & 0xffff;
    message.DSV = device_id > 0xffff;
    message.DSEG = device_id >> 16;
    message.PV = pid_valid;
    message.PID = process_id;
    message.PAYLOAD = payload;
    return message;
}

void model_page_request(uint32_t device_id, uint32_t pid_valid, uint32_t process_id, uint32_t priv,
                        uint32_t exec, uint64_t payload) {
    ats_msg_t message = message_from(device_id, pid_valid, process_id, payload);
    message.MSGCODE = PAGE_REQ_MSG_CODE;
    message.PRIV = priv;
    message.EXEC_REQ = exec;
    handle_page_request(&model, &message);
}

uint32_t model_invalidation_completion(uint32_t device_id, uint64_t payload) {
    ats_msg_t message = message_from(device_id, 0, 0, payload);
    message.MSGCODE = INVAL_COMPL_MSG_CODE;
    return handle_invalidation_completion(&model, &message);
}

void model_ats_timeout(uint32_t tags) {
    do_ats_timer_expiry(&model, tags);
}

// The messages that the model sent to devices since the last call: code, tag, requester, segment and whether
// it is valid, whether the process_id is and the process_id, payload.
uint32_t model_take_messages(uint64_t* out, uint32_t capacity) {
    uint32_t count = message_count < capacity ? message_count : capacity;
    for (uint32_t i = 0; i < count; i++, out += 8) {
        const ats_msg_t* m = &messages[i];
        out[0] = m->MSGCODE, out[1] = m->TAG, out[2] = m->RID, out[3] = m->DSEG, out[4] = m->DSV;
        out[5] = m->PV, out[6] = m->PID, out[7] = m->PAYLOAD;
    }
    message_count = 0;
    return count;
}

// The interrupt messages since the last call: address, data.
uint32_t model_take_stores(uint64_t* out, uint32_t capacity) {
    uint32_t count = store_count < capacity ? store_count : capacity;
    for (uint32_t i = 0; i < count; i++) out[2 * i] = stores[i].address, out[2 * i + 1] = stores[i].data;
    store_count = 0;
    return count;
}

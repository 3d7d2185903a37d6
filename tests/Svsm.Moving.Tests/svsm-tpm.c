// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Copyright (c) The Svsm.Sdk contributors

// A driver of Linux for the SVSM's virtual TPM, which makes it /dev/tpm0: Debian builds its kernels without one (CONFIG_TCG_SVSM), though they have the
// platform device and the function that calls the SVSM. For kernels since 6.18, where a driver may answer as it sends. The tests compile it with nothing
// but the headers of the kernel, so what kbuild would add to a module is at the end.
//
// Source: Secure VM Service Module specification, "vTPM Protocol": one page with platform command 8, then with its response.

#define INCLUDE_VERMAGIC
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/tpm.h>
#include <linux/unaligned.h>
#include <linux/vermagic.h>
#include <asm/sev.h>

#define SEND_COMMAND 8
#define REQUEST_HEADER 9
#define RESPONSE_HEADER 4

// Exported by the kernel, but declared in a header of its own that the packages have not.
struct tpm_chip *tpmm_chip_alloc(struct device *device, const struct tpm_class_ops *ops);
int tpm_chip_register(struct tpm_chip *chip);
void tpm_chip_unregister(struct tpm_chip *chip);

// Returns the length of the response.
static int svsm_tpm_send(struct tpm_chip *chip, u8 *buffer, size_t capacity, size_t length)
{
	u8 *page = dev_get_drvdata(&chip->dev);
	u32 size;
	int error;

	if (length > PAGE_SIZE - REQUEST_HEADER)
		return -E2BIG;

	put_unaligned_le32(SEND_COMMAND, page);
	page[4] = 0;
	put_unaligned_le32(length, page + 5);
	memcpy(page + REQUEST_HEADER, buffer, length);
	error = snp_svsm_vtpm_send_command(page);
	if (error)
		return error;

	size = get_unaligned_le32(page);
	if (size > PAGE_SIZE - RESPONSE_HEADER || size > capacity)
		return -EIO;

	memcpy(buffer, page + RESPONSE_HEADER, size);
	return size;
}

static const struct tpm_class_ops svsm_tpm_ops = {
	.flags = TPM_OPS_AUTO_STARTUP,
	.send = svsm_tpm_send,
};

static int svsm_tpm_probe(struct platform_device *device)
{
	struct tpm_chip *chip;
	void *page = (void *)devm_get_free_pages(&device->dev, GFP_KERNEL, 0);

	if (!page)
		return -ENOMEM;

	chip = tpmm_chip_alloc(&device->dev, &svsm_tpm_ops);
	if (IS_ERR(chip))
		return PTR_ERR(chip);

	dev_set_drvdata(&chip->dev, page);
	chip->flags |= TPM_CHIP_FLAG_TPM2 | TPM_CHIP_FLAG_SYNC;
	platform_set_drvdata(device, chip);
	return tpm_chip_register(chip);
}

static void svsm_tpm_remove(struct platform_device *device)
{
	tpm_chip_unregister(platform_get_drvdata(device));
}

static struct platform_driver svsm_tpm_driver = {
	.probe = svsm_tpm_probe,
	.remove = svsm_tpm_remove,
	.driver = { .name = "tpm-svsm" },
};
module_platform_driver(svsm_tpm_driver);

MODULE_DESCRIPTION("Virtual TPM of an SVSM");
MODULE_LICENSE("Dual MIT/GPL");

// What kbuild adds.
MODULE_INFO(vermagic, VERMAGIC_STRING);

struct module __this_module __section(".gnu.linkonce.this_module") = {
	.name = KBUILD_MODNAME,
	.init = init_module,
	.exit = cleanup_module,
};
